"""The joint cells of a relation: one box of each variable, and the operands that have positions there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from permgraph.algebra.boxes import Box, Partition, Partitions
from permgraph.algebra.laws import SAME
from permgraph.algebra.relations import Atom, Relation

Choice = tuple[int, ...]


@dataclass
class JointCells:
    """The joint cells of `relation` that say something.

    A tensor of which an operation reads a part is alone in the rest. Where that says nothing, the cells of the
    rest are left out: T operations that take one of T positions each have T joint cells, not T².
    """

    relation: Relation
    partitions: Partitions

    @cached_property
    def parts(self) -> dict[str, Partition]:
        """Variable -> the partition of its axis."""
        return {name: self.partitions.of(axis) for name, axis in self.relation.variables.items()}

    @property
    def count(self) -> int:
        """How many there are."""
        return prod(map(len, self._choices))

    def __iter__(self) -> Iterator[tuple[Choice, Sequence[int]]]:
        """Each as the index of the box of each variable, with the operands that may have positions there."""
        told = [
            (place, self._met[name], self._rest(name)) for place, name in enumerate(self.parts) if name in self._met
        ]
        for choice in product(*self._choices):
            here: Sequence[int] = range(len(self.relation.operands))
            for n, (place, met, rest) in enumerate(told):
                near = sorted([*rest, *met.get(choice[place], ())])
                here = near if n == 0 else [k for k in here if k in near]
            yield choice, here

    @cached_property
    def _choices(self) -> list[Sequence[int]]:
        return [
            sorted(self._met[name]) if self._is_mute(name) else range(len(part.boxes))
            for name, part in self.parts.items()
        ]

    def _is_mute(self, variable: str) -> bool:
        """Whether a joint cell says nothing where no operand that has a part of this variable has positions."""
        relation = self.relation
        if variable not in self._met or relation.limits or relation.told_apart or relation.inner:
            return False
        if any(relation.laws.get(name) != SAME for name in relation.variables):
            return False
        return len(self._rest(variable)) <= 1

    def _rest(self, variable: str) -> list[int]:
        """The operands that have no part of a variable: all of it, or nothing."""
        return [k for k, ranges in enumerate(self._ranges) if variable not in ranges]

    @cached_property
    def _ranges(self) -> list[dict[str, Atom]]:
        """For each operand the variables of which it has a part, with that part."""
        sizes = {name: axis.size for name, axis in self.relation.variables.items()}
        return [
            {atom.variable: atom for dim in operand.dims for atom in dim if atom.size != sizes[atom.variable]}
            for operand in self.relation.operands
        ]

    @cached_property
    def _met(self) -> dict[str, dict[int, list[int]]]:
        """For each variable of which some operand has a part: box -> the parts that meet it."""
        found: dict[str, dict[int, list[int]]] = {}
        for k, ranges in enumerate(self._ranges):
            for name, atom in ranges.items():
                boxes = found.setdefault(name, {})
                for box in self.parts[name].meeting(atom.start, atom.stop):
                    boxes.setdefault(box, []).append(k)
        return found


def within(box: Box, atom: Atom) -> bool | None:
    """Whether a box is in the range of an atom (True), outside it (False), or across its edge (None)."""
    if atom.start <= box.offset and box.last < atom.stop:
        return True
    if box.last < atom.start or box.offset >= atom.stop:
        return False
    return None
