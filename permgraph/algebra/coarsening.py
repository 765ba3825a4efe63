"""Joins parts of a cut axis that no operation distinguishes.

An axis is cut everywhere if one operation on one tensor requires it: rotary embeddings cut the queries of a fused view
into halves, or into even and odd positions, and with them the values in the same view. If two consecutive parts belong
to different free factors F and G, and every place and every operation with F has G in the same way, all permutations of
F and G together are allowed, not only those that keep the cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from permgraph.algebra.cells import Occurrence, TensorLayout, next_box
from permgraph.algebra.instances import Instance, Slot
from permgraph.algebra.joint_cells import Choice, within
from permgraph.algebra.relations import Source
from permgraph.algebra.ties import Resolution

UNCUT = Source("parts that nothing tells apart")


def coarsen(resolution: Resolution) -> Resolution:
    """The same factors, with factors joined that continue each other in the same way everywhere."""
    classes, layouts = dict(resolution.factors.classes), resolution.layouts
    chains = _chains(_Parts(resolution))
    if not chains:
        return resolution
    for chain, in_turn in chains:
        size = sum(layouts[kind.tensor].size(kind) for kind in chain)
        for occurrence in classes[chain[0]]:
            layout = layouts[occurrence.tensor]
            stride = layout.stride(occurrence)
            layout.grown[occurrence] = size, stride // len(chain) if in_turn else stride
        for kind in chain[1:]:
            resolution.factors.tie(chain[0], kind, UNCUT)
            for occurrence in classes[kind]:
                layouts[occurrence.tensor].absorbed.add(occurrence.cell)
    resolution.factors.forget()
    kept = [
        instance
        for instance in resolution.instances
        if not any(o.cell in layouts[o.tensor].absorbed for operand in instance.operands for o in operand.values())
    ]
    return replace(resolution, instances=kept)


def _chains(parts: _Parts) -> list[tuple[list[Occurrence], bool]]:
    """Lists of factors each of which continues the one before, end to end or in turn; no factor is in two lists."""
    found: list[tuple[list[Occurrence], bool]] = []
    for in_turn in (False, True):
        taken = {kind for chain, _ in found for kind in chain}
        follower = {a: b for a, b in parts.pairs(in_turn=in_turn) if a not in taken and b not in taken}
        for first in follower.keys() - set(follower.values()):
            chain = [first]
            while chain[-1] in follower:
                chain.append(follower[chain[-1]])
            if not in_turn or parts.fill(chain):
                found.append((chain, in_turn))
    return sorted(found)


class _Parts:
    """Which factors continue which."""

    def __init__(self, resolution: Resolution) -> None:
        self.layouts, self.find = resolution.layouts, resolution.factors.find
        self.classes, self.pinned = resolution.factors.classes, resolution.factors.pinned
        self.instances, self.partitions, self.in_turn = resolution.instances, resolution.partitions, False

    def pairs(self, *, in_turn: bool) -> Iterator[tuple[Occurrence, Occurrence]]:
        """(F, G) where G continues F in the same way everywhere."""
        self.in_turn = in_turn
        tried: set[tuple[Occurrence, Occurrence]] = set()
        left, right = set[Occurrence](), set[Occurrence]()
        for pair in self._candidates():
            if pair in tried or pair[0] in left or pair[1] in right:
                continue
            tried.add(pair)
            if self._places_alike(*pair) and self._uses_alike(*pair):
                left.add(pair[0])
                right.add(pair[1])
                yield pair

    def fill(self, chain: Sequence[Occurrence]) -> bool:
        """Whether the units of alternating factors together are evenly spaced wherever they occur."""
        for occurrence in self.classes[chain[0]]:
            layout, place, offsets = self.layouts[occurrence.tensor], occurrence, [0]
            while len(offsets) < len(chain) and (after := layout.next(place, in_turn=True)) is not None:
                place = after
                offsets.append(layout.offset(place) - layout.offset(occurrence))
            step = layout.stride(occurrence) // len(chain)
            if offsets != [k * step for k in range(len(chain))] or step * len(chain) != layout.stride(occurrence):
                return False
        return True

    def _candidates(self) -> Iterator[tuple[Occurrence, Occurrence]]:
        for layout in self.layouts.values():
            if layout.value.kind != "parameter" or max(map(len, layout.boxes), default=1) == 1:
                continue
            for cell in layout.cells():
                for occurrence, _ in layout.occurrences(cell):
                    after = layout.next(occurrence, in_turn=self.in_turn)
                    if after is not None:
                        pair = self.find(occurrence), self.find(after)
                        if pair[0] != pair[1] and not any(kind in self.pinned for kind in pair):
                            yield pair

    def _places_alike(self, first: Occurrence, second: Occurrence) -> bool:
        if len(self.classes[first]) != len(self.classes[second]):
            return False
        for occurrence in self.classes[first]:
            layout = self.layouts[occurrence.tensor]
            after = layout.next(occurrence, in_turn=self.in_turn)
            if after is None or self.find(after) != second or not self._beside_alike(layout, occurrence, after):
                return False
        return True

    def _beside_alike(self, layout: TensorLayout, one: Occurrence, other: Occurrence) -> bool:
        pairs = zip(layout.occurrences(one.cell), layout.occurrences(other.cell), strict=True)
        return all(self.find(a) == self.find(b) for (a, _), (b, _) in pairs if a != one)

    def _uses_alike(self, first: Occurrence, second: Occurrence) -> bool:
        mine, theirs = self._uses.get(first, []), self._uses.get(second, [])
        return len(mine) == len(theirs) and all(self._goes_on(instance, slot, second) for instance, slot in mine)

    @cached_property
    def _uses(self) -> dict[Occurrence, list[tuple[Instance, Slot]]]:
        """Factor -> the joint cells of relations in which it occurs, and where."""
        found: dict[Occurrence, list[tuple[Instance, Slot]]] = {}
        for instance in self.instances:
            slots = {slot: self.find(o) for operand in instance.operands for slot, o in operand.items()}
            for slot, kind in slots.items():
                found.setdefault(kind, []).append((instance, slot))
        return found

    def _goes_on(self, instance: Instance, slot: Slot, second: Occurrence) -> bool:
        """Whether the relation has a joint cell that differs only in having G where this one has F."""
        other = self._next_instance(instance, slot)
        if other is None or len(other.operands) != len(instance.operands):
            return False
        for here, there in zip(instance.operands, other.operands, strict=True):
            if here.keys() != there.keys():
                return False
            for name, occurrence in here.items():
                wanted = second if name == slot else self.find(occurrence)
                if self.find(there[name]) != wanted:
                    return False
        return True

    def _next_instance(self, instance: Instance, slot: Slot) -> Instance | None:
        variable, position = slot
        place = list(instance.relation.variables).index(variable)
        partition = self.partitions.of(instance.relation.variables[variable])
        k = next_box(partition, instance.choice[place], position, in_turn=self.in_turn)
        if k is None:
            return None
        here, there = partition.boxes[instance.choice[place]], partition.boxes[k]
        apart = [atom for atom in instance.relation.told_apart if atom.variable == variable]
        if any(within(here, atom) != within(there, atom) for atom in apart):
            return None
        choice = (*instance.choice[:place], k, *instance.choice[place + 1 :])
        return self._by_choice.get((id(instance.relation), choice))

    @cached_property
    def _by_choice(self) -> dict[tuple[int, Choice], Instance]:
        return {(id(instance.relation), instance.choice): instance for instance in self.instances}
