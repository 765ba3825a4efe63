"""The einsum-like notation in which rules relate tensors.

`"... i, o i, o -> ... o"` is a linear layer. Letters are variables; one letter in two places is one index. The grammar:

- `(g i)` is one dimension that is the product of `g` and `i`, outer to inner;
- `v[2:5]` is the positions 2 to 5 of `v`; `v[2:3]` in a product marks a picked index;
- `...` stands for leading dimensions, aligned from the right and broadcast;
- after `|` come tensors that the operation forms internally (the statistics of a norm, attention scores): if one of
  them has a factor without another factor, the first cannot depend on the second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod

from permgraph.algebra.axes import Axis, freeze, settle
from permgraph.algebra.cutting import cut, take
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import Law
from permgraph.algebra.relations import Atom, Dim, Operand, Relation, Source, Value
from permgraph.algebra.tying import split, tie

_TOKEN = re.compile(r"\(|\)|\.\.\.|\w+(?:\[\d+:\d+\])?")
_ATOM = re.compile(r"(\w+?)(?:\[(\d+):(\d+)\])?$")


def relate(
    pattern: str,
    values: Sequence[Value],
    source: Source,
    *,
    pin: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    law: Law | Mapping[str, Law] | None = None,
) -> Relation:
    """Read `pattern` over `values` (inputs, then outputs), tie their axes accordingly, and return the relation.

    `pin`: variable -> the reason why it may not move. `sizes`: sizes that the shapes do not determine. `law`: what the
    variables allow in addition to permutations, for all of them or as a mapping.
    """
    visible, _, hidden = pattern.partition("|")
    written = [_parse(part) for side in visible.split("->") for part in side.split(",")]
    if len(written) != len(values):
        raise ValueError(f"{pattern!r} names {len(written)} tensors, {len(values)} given")
    expanded = [_expand(dims, value) for dims, value in zip(written, values, strict=True)]
    known = _solve_sizes(expanded, values, dict(sizes or {}))
    variables = {name: Axis(size) for name, size in known.items()}
    written_out = [_dims(dims, value, known) for dims, value in zip(expanded, values, strict=True)]
    operands = tuple(_operand(value, dims) for value, dims in zip(values, written_out, strict=True))
    _tie_operands(operands, variables, known, str(source))
    segments = [atom for dims in written_out for dim in dims for atom in dim if atom.size != known[atom.variable]]
    for atom in segments:  # even for a uniform operand: two different constants together are not uniform
        cut(variables[atom.variable], (atom.start, atom.stop), str(source))
    for axis in variables.values():
        settle(axis)
    inputs, outputs = _variables(operands[:-1]), _variables(operands[-1:])
    kept = {atom for operand in operands for dim in operand.dims for atom in dim}
    relation = Relation(
        source,
        variables,
        operands,
        inner=tuple(frozenset(_names(part, variables)) for part in hidden.split(",") if hidden),
        contracted=frozenset(inputs - outputs),
        segmented=frozenset(atom.variable for atom in segments),
        told_apart=tuple(atom for atom in segments if atom not in kept),
        given=len(visible.partition("->")[0].split(",")),
        laws=dict.fromkeys(variables, law) if isinstance(law, Law) else _laws(law or {}, variables),
    )
    _pin(relation, pin or {}, outputs - inputs if inputs else set())
    return relation


def _operand(value: Value, dims: Sequence[Dim]) -> Operand:
    """A tensor with its dimensions as written; those along which it is uniform carry nothing."""
    is_uniform = [k in value.uniform and size > 1 for k, size in enumerate(value.shape)]
    return Operand(value, tuple(() if uniform else atoms for uniform, atoms in zip(is_uniform, dims, strict=True)))


def _variables(operands: Sequence[Operand]) -> set[str]:
    return {atom.variable for operand in operands for dim in operand.dims for atom in dim}


def _pin(relation: Relation, pin: Mapping[str, str], made: Collection[str]) -> None:
    """Pin variables; the axes of those that the operation makes never move, so they are frozen."""
    for name, why in pin.items():
        relation.allow(name, Kind.IDENTITY, why)
        if name in made:
            freeze(relation.variables[name], f"{relation.source}: {why}")


def _laws(laws: Mapping[str, Law], variables: Iterable[str]) -> dict[str, Law]:
    """The laws by variable; `...` names all leading dimensions."""
    batch = dict.fromkeys((name for name in variables if name.startswith("batch")), laws.get("..."))
    return {name: law for name, law in {**batch, **laws}.items() if law is not None and name in variables}


def _parse(text: str) -> list[list[str]]:
    dims: list[list[str]] = []
    group: list[str] | None = None
    for token in _TOKEN.findall(text):
        if token == "(":
            group = []
            dims.append(group)
        elif token == ")":
            group = None
        elif group is not None:
            group.append(token)
        else:
            dims.append([token])
    return dims


def _expand(dims: list[list[str]], value: Value) -> list[list[str]]:
    if ["..."] not in dims:
        if len(dims) != len(value.shape):
            raise ValueError(f"{value.name} has {len(value.shape)} dimensions, the pattern {len(dims)}")
        return dims
    at = dims.index(["..."])
    count = len(value.shape) - len(dims) + 1
    return dims[:at] + [[f"batch{count - 1 - k}"] for k in range(count)] + dims[at + 1 :]


def _solve_sizes(expanded: Iterable[list[list[str]]], values: Sequence[Value], known: dict[str, int]) -> dict[str, int]:
    pending = [
        (dim, size)
        for dims, value in zip(expanded, values, strict=True)
        for dim, size in zip(dims, value.shape, strict=True)
    ]
    for dim, size in pending:
        if len(dim) == 1 and "[" not in dim[0]:
            known[dim[0]] = max(known.get(dim[0], 1), size)
    for _ in range(2):
        for dim, size in pending:
            open_names = [token for token in dim if "[" not in token and token not in known]
            if len(open_names) == 1:
                known[open_names[0]] = size // prod(_extent(token, known) for token in dim if token != open_names[0])
    return known


def _extent(token: str, known: Mapping[str, int]) -> int:
    name, start, stop = _ATOM.match(token).groups()  # type: ignore[union-attr]
    return int(stop) - int(start) if stop is not None else known[name]


def _atoms(dim: Sequence[str], size: int, known: Mapping[str, int]) -> Dim:
    atoms = []
    for token in dim:
        name, start, stop = _ATOM.match(token).groups()  # type: ignore[union-attr]
        atoms.append(Atom(name, int(start or 0), int(stop) if stop is not None else known[name]))
    if size == 1 and prod(atom.size for atom in atoms) != 1:
        return ()  # broadcast
    return tuple(atoms)


def _dims(dims: Sequence[Sequence[str]], value: Value, known: Mapping[str, int]) -> tuple[Dim, ...]:
    return tuple(_atoms(dim, size, known) for dim, size in zip(dims, value.shape, strict=True))


def _tie_operands(
    operands: Sequence[Operand], variables: Mapping[str, Axis], known: Mapping[str, int], reason: str
) -> None:
    """Tie whole operands first, so that parts fit into their structure; cut at the ends of all parts at once."""
    wholes, parts = list[Operand](), list[Operand]()
    points: dict[str, list[int]] = {}
    for operand in operands:
        atoms = [atom for dim in operand.dims for atom in dim if atom.size != known[atom.variable]]
        (parts if atoms else wholes).append(operand)
        for atom in atoms:
            points.setdefault(atom.variable, []).extend((atom.start, atom.stop))
    for operand in wholes:
        _tie_operand(operand, variables, reason)
    for name, found in points.items():
        cut(variables[name], found, reason)
    for operand in parts:
        _tie_operand(operand, variables, reason)


def _tie_operand(operand: Operand, variables: Mapping[str, Axis], reason: str) -> None:
    for axis, dim in zip(operand.value.axes, operand.dims, strict=True):
        if not dim:
            continue
        pieces = split(axis, [atom.size for atom in dim], reason) if len(dim) > 1 else [axis]
        for piece, atom in zip(pieces, dim, strict=True):
            tie(piece, take(variables[atom.variable], atom.start, atom.stop, reason), reason)


def _names(text: str, variables: Mapping[str, Axis]) -> list[str]:
    names: list[str] = []
    for dim in _parse(text):
        for token in dim:
            names += [name for name in variables if name.startswith("batch")] if token == "..." else [token]
    return names
