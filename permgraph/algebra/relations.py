"""What one operation says about the axes of its tensors, written in an einsum-like notation.

`"... i, o i, o -> ... o"` is a linear layer. Letters are variables; one letter in two places is one index. The grammar:

- `(g i)` is one dimension that is the product of `g` and `i`, outer to inner;
- `v[2:5]` is the positions 2 to 5 of `v`; `v[2:3]` in a product marks a picked index;
- `...` stands for leading dimensions, aligned from the right and broadcast;
- after `|` come tensors that the operation forms internally (the statistics of a norm, attention scores): if one of
  them has a factor without another factor, the first cannot depend on the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from torch import Tensor

from permgraph.algebra.axes import Axis, freeze, settle
from permgraph.algebra.cutting import cut, take
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import Law
from permgraph.algebra.tying import split, tie

_TOKEN = re.compile(r"\(|\)|\.\.\.|\w+(?:\[\d+:\d+\])?")
_ATOM = re.compile(r"(\w+?)(?:\[(\d+):(\d+)\])?$")


@dataclass(frozen=True)
class Source:
    """Where in the model an operation comes from."""

    op: str
    module: str = ""
    line: str = ""

    def __str__(self) -> str:
        place = f" in {self.module}" if self.module else ""
        return f"{self.op}{place}" + (f" ({self.line})" if self.line else "")


@dataclass(eq=False)
class Value:
    """A tensor of the trace, with an `Axis` for each dimension.

    Along the dimensions in `uniform` all elements are equal, so that every permutation leaves the tensor unchanged; as
    an operand it does not constrain them. `data` has the elements of a constant of integers; `zero`: all elements are
    0. `largest` bounds every change of basis: integers, booleans, and a constant that is written to are only permuted.
    If the elements are numbers of units, such as those that `topk` returns, `picks` is their one-hot tensor, with one
    more axis.
    """

    name: str
    kind: str  # "parameter" | "buffer" | "constant" | "input" | "activation"
    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    source: Source
    uses_parameters: bool = True
    boolean: bool = False
    uniform: frozenset[int] = frozenset()
    data: Tensor | None = None
    zero: bool = False
    largest: Kind = Kind.INVERTIBLE
    picks: Value | None = None

    @classmethod
    def fresh(cls, name: str, kind: str, shape: Sequence[int], source: Source, frozen: str = "") -> Value:
        """A value with fresh axes."""
        axes = tuple(Axis(size, frozen) for size in shape)
        return cls(name, kind, tuple(shape), axes, source)


@dataclass(frozen=True)
class Atom:
    """The positions `start` to `stop` of a variable."""

    variable: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many positions."""
        return self.stop - self.start


Dim = tuple[Atom, ...]


@dataclass(frozen=True)
class Operand:
    """A tensor with each of its dimensions written as a product of atoms."""

    value: Value
    dims: tuple[Dim, ...]


@dataclass
class Relation:
    """The index law of one operation: variables with their axes, and the operands that carry them.

    `segmented`: variables of which some operand has only a part. `told_apart`: parts that are uniform; their operands
    carry no atom of them, so only this shows where they end. `given`: this many operands are read, the others are
    results. `laws`: how a change of basis of a variable passes through; a variable without a law allows permutations.
    `unordered`: variable -> a variable whose positions are some of its units in no particular order. `made`: the names
    of all tensors that the operation makes or writes to; None if no operation made the relation.

    A tensor that is constant along the variables `ignored[k]` may be added to operand k. Along `averaged[k]`, operand k
    is averaged with weights that sum to 1. Along `steady`, the sum of the result is one constant, as for a softmax.
    Only the sum of operand k and operand `twins[k]`, which have the same indices, is read.
    """

    source: Source
    variables: dict[str, Axis]
    operands: tuple[Operand, ...]
    inner: tuple[frozenset[str], ...] = ()
    contracted: frozenset[str] = frozenset()
    segmented: frozenset[str] = frozenset()
    told_apart: tuple[Atom, ...] = ()
    limits: dict[str, tuple[Kind, str]] = field(default_factory=dict)
    given: int = 0
    laws: dict[str, Law] = field(default_factory=dict)
    unordered: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    made: frozenset[str] | None = None
    ignored: dict[int, frozenset[str]] = field(default_factory=dict)
    averaged: dict[int, frozenset[str]] = field(default_factory=dict)
    steady: frozenset[str] = frozenset()
    twins: dict[int, int] = field(default_factory=dict)

    def freeze(self) -> None:
        """Freeze the pinned variables: their parts need not be distinguished, so later cuts make no cells."""
        for name, (_, why) in self.limits.items():
            freeze(self.variables[name], f"{self.source}: {why}")

    def allow(self, variable: str, what: Kind, why: str) -> None:
        """Bound the symmetry of a variable; the meet of all bounds is what remains."""
        if variable in self.variables and what is Kind.IDENTITY:
            self.limits[variable] = (what, why)


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
    operands = tuple(
        Operand(
            value, tuple(() if k in value.uniform and value.shape[k] > 1 else atoms for k, atoms in enumerate(dims))
        )
        for dims, value in zip(written_out, values, strict=True)
    )
    _tie_operands(operands, variables, known, str(source))
    segments = [atom for dims in written_out for dim in dims for atom in dim if atom.size != known[atom.variable]]
    for atom in segments:  # even for a uniform operand: two different constants together are not uniform
        cut(variables[atom.variable], (atom.start, atom.stop), str(source))
    for axis in variables.values():
        settle(axis)
    inner = tuple(frozenset(_names(part, variables)) for part in hidden.split(",") if hidden)
    inputs = {atom.variable for operand in operands[:-1] for dim in operand.dims for atom in dim}
    outputs = {atom.variable for dim in operands[-1].dims for atom in dim} if operands else set()
    kept = [atom for operand in operands for dim in operand.dims for atom in dim]
    told_apart = tuple(atom for atom in segments if atom not in kept)
    segmented = frozenset(atom.variable for atom in segments)
    relation = Relation(source, variables, operands, inner, frozenset(inputs - outputs), segmented, told_apart)
    relation.given = len(visible.partition("->")[0].split(","))
    relation.laws = dict.fromkeys(variables, law) if isinstance(law, Law) else _laws(law or {}, variables)
    for name, why in (pin or {}).items():
        relation.allow(name, Kind.IDENTITY, why)
        if inputs and name in outputs - inputs:  # an axis made here, which never moves
            freeze(variables[name], f"{source}: {why}")
    return relation


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
