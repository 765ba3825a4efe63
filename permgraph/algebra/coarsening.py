"""Parts of a cut axis that nothing tells apart are one again.

An axis is cut everywhere when one operation on one tensor asks for it: rotation cuts the queries of a fused view in
halves, and with them the values that lie in the same view. Where two consecutive parts belong to different free
factors F and G, and every place and every operation that has F has G in the same way, all permutations of F and G
together are allowed, not only those that keep the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from permgraph.algebra.axes import boxes
from permgraph.algebra.cells import Occurrence, TensorLayout, continues
from permgraph.algebra.relations import Source
from permgraph.algebra.ties import Instance, Resolution, Slot

UNCUT = Source("parts that nothing tells apart")
Choice = tuple[int, ...]


def coarsen(resolution: Resolution) -> Resolution:
    """The same factors, with those that continue each other alike everywhere made one."""
    follower = dict(_Parts(resolution).pairs())
    chains = [_chain(first, follower) for first in follower if first not in follower.values()]
    if not chains:
        return resolution
    factors, layouts, classes = resolution.factors, resolution.layouts, dict(resolution.factors.classes)
    for chain in chains:
        size = sum(layouts[kind.tensor].size(kind) for kind in chain)
        for occurrence in classes[chain[0]]:
            layouts[occurrence.tensor].grown[occurrence] = size
        for kind in chain[1:]:
            factors.tie(chain[0], kind, UNCUT)
            for occurrence in classes[kind]:
                layouts[occurrence.tensor].absorbed.add(occurrence.cell)
    factors.forget()
    kept = [
        instance
        for instance in resolution.instances
        if not any(o.cell in layouts[o.tensor].absorbed for operand in instance.operands for o in operand.values())
    ]
    return Resolution(factors, layouts, kept)


def _chain(first: Occurrence, follower: dict[Occurrence, Occurrence]) -> list[Occurrence]:
    chain = [first]
    while chain[-1] in follower and follower[chain[-1]] not in chain:
        chain.append(follower[chain[-1]])
    return chain


class _Parts:
    """Which factors continue which."""

    def __init__(self, resolution: Resolution) -> None:
        self.layouts, self.find = resolution.layouts, resolution.factors.find
        self.classes, self.pinned = resolution.factors.classes, resolution.factors.pinned
        self.instances = resolution.instances

    def pairs(self) -> Iterator[tuple[Occurrence, Occurrence]]:
        """(F, G) where G goes on where F ends, everywhere alike."""
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

    def _candidates(self) -> Iterator[tuple[Occurrence, Occurrence]]:
        for layout in self.layouts.values():
            if layout.value.kind != "parameter" or max(map(len, layout.boxes), default=1) == 1:
                continue
            for cell in layout.cells():
                for occurrence, _ in layout.occurrences(cell):
                    after = layout.next(occurrence)
                    if after is not None:
                        pair = self.find(occurrence), self.find(after)
                        if pair[0] != pair[1] and not any(kind in self.pinned for kind in pair):
                            yield pair

    def _places_alike(self, first: Occurrence, second: Occurrence) -> bool:
        if len(self.classes[first]) != len(self.classes[second]):
            return False
        for occurrence in self.classes[first]:
            layout = self.layouts[occurrence.tensor]
            after = layout.next(occurrence)
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
        """Factor -> the joint cells of relations in which it stands, and where."""
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
        choices = boxes(instance.relation.variables[variable])
        current = choices[instance.choice[place]]
        for k, box in enumerate(choices):
            if continues(current, box, position):
                choice = (*instance.choice[:place], k, *instance.choice[place + 1 :])
                return self._by_choice.get((id(instance.relation), choice))
        return None

    @cached_property
    def _by_choice(self) -> dict[tuple[int, Choice], Instance]:
        return {(id(instance.relation), instance.choice): instance for instance in self.instances}
