"""Which factor's permutation may depend on the index of which other factor, and which factors are really one.

The permutation of F may depend on the index of h exactly when F never occurs without h, in any tensor or operation:
then permuting F differently for every index of h is a change of variables of the pair (h, F). If h occurs twice on a
tensor, one copy selects, and all operations must agree on which. Two factors that each occur only with the other are
one index set, and the group is Sym of their product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.instances import Instance, Slot
from permgraph.algebra.ties import Resolution

Selectors = dict[Occurrence, dict[Occurrence, Occurrence]]
Options = dict[Occurrence, dict[Occurrence, list[Occurrence]]]


def selectors_of(resolution: Resolution, *, pinned: bool = False) -> Selectors:
    """For each occurrence that may move: class -> the occurrence of that class that may select its permutation.

    With `pinned`, also for occurrences whose order is pinned and which may take signs and scales. The selecting
    occurrence is in the same cell. If the class occurs there more than once, it is a copy that all operations agree on:
    preferably one on the same dimension, else the first.
    """
    options = _options(resolution, pinned=pinned)
    doubtful = [(o, kind) for o, kinds in options.items() for kind, members in kinds.items() if len(members) > 1]
    if doubtful:
        choice = _Choice(resolution.instances, options, {occurrence for occurrence, _ in doubtful})
        for occurrence, kind in doubtful:
            choice.choose(occurrence, kind)
    return {o: {kind: members[0] for kind, members in kinds.items() if members} for o, kinds in options.items()}


def _options(resolution: Resolution, *, pinned: bool) -> Options:
    """For each occurrence that may move: class -> its occurrences in the cell, those on the same dimension first."""
    factors = resolution.factors
    found: Options = {}
    for layout in resolution.layouts.values():
        for cell in layout.cells():
            if (layout.value.name, cell) in resolution.unread:
                continue
            classes: dict[Occurrence, list[Occurrence]] = {}
            for occurrence, _ in layout.occurrences(cell):
                classes.setdefault(factors.find(occurrence), []).append(occurrence)
            for own, members in classes.items():
                for occurrence in members if pinned or own not in factors.pinned else ():
                    found[occurrence] = {kind: _near(classes[kind], occurrence) for kind in classes if kind != own}
    return found


def _near(members: list[Occurrence], occurrence: Occurrence) -> list[Occurrence]:
    return sorted(members, key=lambda member: member.dim != occurrence.dim) if len(members) > 1 else list(members)


class _Choice:
    """Narrows the options to copies that are in one slot of each operation."""

    def __init__(self, instances: Iterable[Instance], options: Options, doubtful: set[Occurrence]) -> None:
        self.options = options
        self._touching: defaultdict[Occurrence, list[Instance]] = defaultdict(list)
        pending = []
        for instance in instances:
            here = {occurrence for operand in instance.operands for occurrence in operand.values()}
            if not here.isdisjoint(doubtful):
                pending.append(instance)
                for occurrence in here:
                    self._touching[occurrence].append(instance)
        self._narrow(pending)

    def choose(self, occurrence: Occurrence, kind: Occurrence) -> None:
        """Choose the first remaining option, and narrow the other options accordingly."""
        if len(self.options[occurrence][kind]) > 1:
            del self.options[occurrence][kind][1:]
            self._narrow(self._touching[occurrence])

    def _narrow(self, pending: Iterable[Instance]) -> None:
        queue = list(pending)
        while queue:
            for occurrence in self._agreed(queue.pop()):
                queue += self._touching[occurrence]

    def _agreed(self, instance: Instance) -> Iterator[Occurrence]:
        """The occurrences of an operation whose options become fewer because its operands must agree."""
        carriers: defaultdict[Slot, list[tuple[Occurrence, dict[Occurrence, Slot]]]] = defaultdict(list)
        for operand in instance.operands:
            slot_of = {occurrence: slot for slot, occurrence in operand.items()}
            for slot, occurrence in operand.items():
                if occurrence in self.options:
                    carriers[slot].append((occurrence, slot_of))
        for places in carriers.values():
            kinds = [self.options[occurrence].items() for occurrence, _ in places]
            for kind in dict.fromkeys(kind for items in kinds for kind, members in items if len(members) > 1):
                slots = [
                    {slot_of[other] for other in self.options[occurrence].get(kind, ()) if other in slot_of}
                    for occurrence, slot_of in places
                ]
                common = set.intersection(*slots)
                for occurrence, slot_of in places:
                    members = self.options[occurrence].get(kind, [])
                    left = [other for other in members if slot_of.get(other) in common]
                    if len(left) < len(members):
                        self.options[occurrence][kind] = left
                        yield occurrence


def dependencies(resolution: Resolution, selectors: Selectors) -> dict[Occurrence, set[Occurrence]]:
    """For each class, the classes whose index its permutation may depend on."""
    factors = resolution.factors
    allowed: dict[Occurrence, set[Occurrence]] = {}
    for instance in resolution.instances:
        if instance.relation.made is not None and not resolution.unread.isdisjoint(instance.cells):
            continue  # it contributes to no output, so its results may occur without what selects them
        for own, classes in _common(instance, selectors, factors.find):
            allowed[own] = allowed[own] & classes if own in allowed else classes
    for own, kinds in allowed.items():
        members = factors.classes[own]
        kinds -= {b for a in kinds for b in kinds & allowed.get(a, set()) if not _one_tower(members, a, b, selectors)}
    return allowed


def selecting(
    own: Occurrence,
    support: Container[Occurrence],
    instances: Iterable[Instance],
    find: Callable[[Occurrence], Occurrence],
    selectors: Selectors,
) -> set[Occurrence]:
    """The classes whose index may select the signs and scales of a class that change only `support`."""
    allowed: set[Occurrence] | None = None
    here = {occurrence: kinds for occurrence, kinds in selectors.items() if occurrence in support}
    for instance in instances:
        for kind, classes in _common(instance, here, find):
            if kind == own:
                allowed = classes if allowed is None else allowed & classes
    return allowed or set()


def _one_tower(members: Iterable[Occurrence], a: Occurrence, b: Occurrence, selectors: Selectors) -> bool:
    """Whether the copy of b that selects for these occurrences is also the one that selects for their copy of a."""
    return all(
        selectors[member].get(b) == selectors[selectors[member][a]].get(b)
        for member in members
        if a in selectors.get(member, ()) and selectors[member][a] in selectors
    )


def _common(
    instance: Instance, selectors: Selectors, find: Callable[[Occurrence], Occurrence]
) -> Iterable[tuple[Occurrence, set[Occurrence]]]:
    """For each slot of a relation: its class, and the classes that accompany it everywhere."""
    together: dict[Slot, dict[Occurrence, Slot]] = {}
    owner: dict[Slot, Occurrence] = {}
    for operand in instance.operands:
        slot_of = {occurrence: slot for slot, occurrence in operand.items()}
        for slot, occurrence in operand.items():
            if occurrence not in selectors:
                continue
            here = {kind: slot_of[other] for kind, other in selectors[occurrence].items() if other in slot_of}
            before = together.get(slot)
            together[slot] = here if before is None else {k: s for k, s in before.items() if here.get(k) == s}
            owner[slot] = occurrence
    for slot, near in together.items():
        for inner in instance.inner:
            if slot in inner:
                near = {kind: other for kind, other in near.items() if other in inner}
        yield find(owner[slot]), set(near)


def fused(
    resolution: Resolution,
    allowed: Mapping[Occurrence, set[Occurrence]],
    selectors: Selectors,
    free: Iterable[Occurrence],
) -> list[tuple[Occurrence, ...]]:
    """The free classes, in tuples of classes that always occur together."""
    order = list(free)
    rest = dict.fromkeys(order)
    classes = resolution.factors.classes
    found = []
    for first in order:
        if first not in rest:
            continue
        members = [first]
        for other in rest:
            if other != first and all(
                _leads_back(classes[other], other, member, allowed, selectors)
                and _leads_back(classes[member], member, other, allowed, selectors)
                for member in members
            ):
                members.append(other)
        for member in members:
            del rest[member]
        found.append(tuple(members))
    return found


def _leads_back(
    members: Iterable[Occurrence],
    own: Occurrence,
    other: Occurrence,
    allowed: Mapping[Occurrence, set[Occurrence]],
    selectors: Selectors,
) -> bool:
    """Whether the selector of each occurrence of a class is selected by it in turn: copies do not share a selector."""
    if other not in allowed.get(own, ()):
        return False
    seen = (member for member in members if member in selectors)  # without those in absorbed cells
    return all(selectors.get(selectors[m].get(other, m), {}).get(own) == m for m in seen)
