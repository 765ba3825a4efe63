"""The one table from ATen operation to rule; a second rule for an operation is an error.

A rule takes a `Call` and says, in the notation of `permgraph.algebra.notation`, how the axes of its inputs and outputs
belong together. An operation without a rule pins everything it touches, and so does one with an argument that its rule
does not know (`applying`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch

from permgraph.algebra.laws import Law
from permgraph.algebra.notation import relate
from permgraph.algebra.relations import Relation, Source, Value
from permgraph.rules.example import Example

Rule = Callable[["Call"], None]
RULES: dict[str, Rule] = {}
IGNORED: dict[str, frozenset[str]] = {}
"""Operation -> the arguments that its rule need not read, whatever their value."""
GIVEN: dict[str, tuple[Example, ...]] = {}
"""Operation -> the calls that its rule was registered with, in addition to those in the tables of this package."""
DRAWS = "it draws random numbers, another for each position"
EVERY_SCALAR = "every argument that is no tensor"


def rule(
    *ops: str,
    ignores: Collection[str] = (),
    newer: Collection[str] = (),
    example: Example | Sequence[Example] = (),
    replace: bool = False,
) -> Callable[[Rule], Rule]:
    """Register a rule for operations such as `"aten.linear"`.

    Args:
        ops: names without the overload; a rule of `aten.add` is also that of `aten.add_` and of the forms with `out=`.
        ignores: arguments that never distinguish two positions (`eps`), and those that are determined by the shapes of
            the results. If any other argument that the rule does not read differs from its default, the operation is
            pinned.
        newer: further operations, which some versions of the package that defines them lack.
        example: a small call of the operation, or several, by which `python -m permgraph.judging` judges the rule.
        replace: whether an operation that has a rule gets this one; a function of the same name and module replaces
            itself, so that a cell of a notebook can be run again.

    Raises:
        ValueError: an operation has another rule already, or a namespace that torch knows (`aten`) has no such
            operation.

    """

    examples = (example,) if isinstance(example, Example) else tuple(example)

    def register(function: Rule) -> Rule:
        for op in (*ops, *newer):
            if op in RULES and not (replace or _same(RULES[op], function)):
                raise ValueError(f"{op} has a rule already: {RULES[op].__name__} in {RULES[op].__module__}")
            if op not in newer:
                _require_operation(op)
            RULES[op] = function
            IGNORED[op] = frozenset(ignores)
            GIVEN[op] = tuple(given for given in examples if given.op == op)
        return function

    return register


def _same(one: Rule, other: Rule) -> bool:
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _require_operation(op: str) -> None:
    """The operations of another package are registered when it is imported, perhaps after its rules."""
    namespace, _, name = op.rpartition(".")
    if hasattr(getattr(torch.ops, namespace or "higher_order"), name):
        return
    known = {one.partition(".")[0].replace("::", ".") for one in torch._C._dispatch_get_all_op_names()}
    if not namespace or any(one.startswith(f"{namespace}.") for one in known):
        near = get_close_matches(op, known, n=3)
        raise ValueError(f"torch has no operation {op}" + (f"; near: {', '.join(near)}" if near else ""))


@dataclass
class Call:
    """One operation of the trace: arguments by the names of its schema, outputs, and its place in the model.

    Tensors among the arguments are `Value`s. `outs` are fresh values, one for each tensor output; `used` says for each
    whether anything reads it. `read` collects the names of the arguments that the rule has read.
    """

    source: Source
    arguments: Mapping[str, Any]
    outs: Sequence[Value]
    used: Sequence[bool] = (True,)
    parts: list[Value] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> Any:
        """The argument of this name in the operation's schema."""
        self.read.add(name)
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The same, for an argument that some forms of the operation do not have."""
        return self[name] if name in self.arguments else default

    @property
    def out(self) -> Value:
        """The first output."""
        return self.outs[0]

    def tensors(self) -> Iterator[Value]:
        """All tensor arguments, also those in lists."""
        for argument in self.arguments.values():
            for item in argument if isinstance(argument, list | tuple) else (argument,):
                if isinstance(item, Value):
                    yield item

    def relate(
        self,
        pattern: str,
        *values: Value,
        pin: Mapping[str, str] | None = None,
        sizes: Mapping[str, int] | None = None,
        law: Law | Mapping[str, Law] | None = None,
    ) -> None:
        """Add a relation in einsum-like notation over `values`, inputs first, outputs last.

        `law` says what more than permutations its variables allow, all of them or those that a mapping names.
        """
        self.relations.append(relate(pattern, values, self.source, pin=pin, sizes=sizes, law=law))

    def uniform_dims(self) -> list[frozenset[int]]:
        """For each result the dimensions along which it is uniform, because no operand varies along them.

        An operation that commutes with all permutations of an index maps tensors that these leave unchanged to such
        tensors. This does not hold for pinned variables and segments.
        """
        if not self.relations:
            return [out.uniform for out in self.outs]
        made = {id(out): k for k, out in enumerate(self.outs)}
        mentioned = set[int]()
        varying: list[set[int]] = [set() for _ in self.outs]
        for relation in self.relations:
            bound = _given(relation, made).union(relation.segmented, relation.limits, relation.unordered.values())
            for operand in relation.operands:
                k = made.get(id(operand.value))
                if k is not None:
                    mentioned.add(k)
                    varying[k] |= {
                        dim
                        for dim, atoms in enumerate(operand.dims)
                        for atom in atoms
                        if atom.size > 1 and atom.variable in bound
                    }
        return [
            frozenset(range(len(out.shape))) - varying[k] if k in mentioned else frozenset()
            for k, out in enumerate(self.outs)
        ]

    def part(self, shape: Sequence[int], label: str = "") -> Value:
        """A tensor that the operation forms internally, such as a slice that is then squeezed.

        Units are compared in those with a label, which `permgraph.comparing.inside` computes.
        """
        label = label or f"part{len(self.parts)}"
        value = Value.fresh(f"{self.out.name}:{label}", "activation", shape, self.source)
        self.parts.append(value)
        return value

    def picks_of(self, numbers: Value) -> Value | None:
        """The one-hot tensor of a tensor of unit numbers, or None; the rule must relate it from now on."""
        self.answered.add(numbers.name)
        return numbers.picks

    def pick(self, out: Value, size: int) -> Value:
        """Declare a result to be numbers of `size` units; returns its one-hot tensor, for the rule to relate."""
        out.picks = self.part((*out.shape, size))
        return out.picks

    def with_picks(
        self, values: Sequence[Value], outs: Sequence[Value]
    ) -> Iterator[tuple[Sequence[Value], Sequence[Value]]]:
        """Values, and results with the same elements in other places; then their one-hot tensors, if all values number
        the units of one set.
        """
        yield values, outs
        picks = [value.picks for value in values if value.picks is not None]
        sizes = {one.shape[-1] for one in picks}
        if len(picks) == len(values) and len(sizes) == 1:
            self.answered.update(value.name for value in values)
            yield picks, [self.pick(out, *sizes) for out in outs]

    def pin(self, value: Value, why: str, dims: Sequence[int] | None = None) -> None:
        """Forbid the given dimensions of `value` (all by default) to move; the others are left alone."""
        letters = [f"d{k}" for k in range(len(value.shape))]
        chosen = range(len(letters)) if dims is None else [dim % len(letters) for dim in dims]
        self.relate(" ".join(letters), value, pin={f"d{k}": why for k in chosen})

    def pin_all(self, why: str) -> None:
        """Forbid every axis of every tensor of this operation to move."""
        for value in (*self.tensors(), *self.outs):
            self.pin(value, why)


def _given(relation: Relation, made: Mapping[int, int]) -> set[str]:
    """The variables of the tensors that an operation takes; `made` are the ids of its results."""
    taken = (operand for operand in relation.operands if id(operand.value) not in made)
    return {atom.variable for operand in taken for dim in operand.dims for atom in dim}


def letters(count: int, prefix: str = "d") -> list[str]:
    """`count` distinct variable names."""
    return [f"{prefix}{k}" for k in range(count)]


def axis_list(dims: int | Sequence[int] | None, rank: int) -> list[int]:
    """Dimension arguments as non-negative numbers; None and () mean all of them."""
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return list(range(rank))
    return [dim % rank if rank else 0 for dim in ([dims] if isinstance(dims, int) else dims)]


def letters_along(call: Call, x: Value, dim: int, scalar: str) -> tuple[list[str], list[str]]:
    """A letter for each axis of `x`, and the same letters with "u" at `dim`, where the result has other units.

    For a tensor without axes both are empty, and all that the operation touches is pinned for the reason `scalar`.
    """
    before = letters(len(x.shape))
    if not before:
        call.pin_all(scalar)
        return [], []
    after = list(before)
    after[dim] = "u"
    return before, after
