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
    """The joint cells of `relation` that tie something.

    In joint cells outside the part of a tensor that an operation reads, the tensor is the only operand. If these cells
    tie nothing they are left out: T operations that each read one of T positions have T joint cells, not T².
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
        """Whether joint cells without any operand that has a part of this variable tie nothing."""
        relation = self.relation
        if variable not in self._met or relation.limits or relation.told_apart or relation.inner:
            return False
        if any(relation.laws.get(name) != SAME for name in relation.variables):
            return False
        return len(self._rest(variable)) <= 1

    def _rest(self, variable: str) -> list[int]:
        """The operands that have all of a variable, or nothing of it."""
        return [k for k, ranges in enumerate(self._ranges) if variable not in ranges]

    @cached_property
    def _ranges(self) -> list[dict[str, Atom]]:
        """For each operand: variable -> the part of it that the operand has."""
        sizes = {name: axis.size for name, axis in self.relation.variables.items()}
        return [
            {atom.variable: atom for dim in operand.dims for atom in dim if atom.size != sizes[atom.variable]}
            for operand in self.relation.operands
        ]

    @cached_property
    def _met(self) -> dict[str, dict[int, list[int]]]:
        """For each variable of which some operand has a part: box -> the parts that overlap with it."""
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
