"""Which factor's permutation may differ with the index of which other factor, and which factors are really one.

The permutation of F may depend on the index of h exactly when F never occurs without h, in any tensor and in no
operation: then permuting F differently for every index of h is a change of variables of the pair (h, F). Where h
stands twice on a tensor, its copy on the same dimension is meant, and every operation must agree on the copy. Two
factors that each occur only with the other are one index set, and the group is Sym of their product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.ties import Instance, Resolution, Slot

Partners = dict[Occurrence, dict[Occurrence, Occurrence]]


def partners(resolution: Resolution) -> Partners:
    """For each occurrence: class -> the one occurrence of that class that stands beside it in its cell."""
    factors = resolution.factors
    found: Partners = {}
    for layout in resolution.layouts.values():
        for cell in layout.cells():
            classes: dict[Occurrence, list[Occurrence]] = {}
            here = [occurrence for occurrence, _ in layout.occurrences(cell)]
            for occurrence in here:
                classes.setdefault(factors.find(occurrence), []).append(occurrence)
            for occurrence in here:
                found[occurrence] = dict(_beside(occurrence, classes, factors.find(occurrence)))
    return found


def _beside(
    occurrence: Occurrence, classes: Mapping[Occurrence, list[Occurrence]], own: Occurrence
) -> Iterable[tuple[Occurrence, Occurrence]]:
    for kind, members in classes.items():
        if kind == own:
            continue
        near = members if len(members) == 1 else [m for m in members if m.dim == occurrence.dim]
        if len(near) == 1:
            yield kind, near[0]


def dependencies(resolution: Resolution, beside: Partners) -> dict[Occurrence, set[Occurrence]]:
    """For each class, the classes whose index its permutation may depend on."""
    factors = resolution.factors
    allowed: dict[Occurrence, set[Occurrence]] = {}
    for instance in resolution.instances:
        for own, classes in _common(instance, beside, factors.find):
            allowed[own] = allowed[own] & classes if own in allowed else classes
    return allowed


def _common(
    instance: Instance, beside: Partners, find: Callable[[Occurrence], Occurrence]
) -> Iterable[tuple[Occurrence, set[Occurrence]]]:
    """For each slot of a relation: its class, and the classes that stand beside it wherever it stands."""
    together: dict[Slot, dict[Occurrence, Slot]] = {}
    owner: dict[Slot, Occurrence] = {}
    for operand in instance.operands:
        slot_of = {occurrence: slot for slot, occurrence in operand.items()}
        for slot, occurrence in operand.items():
            here = {kind: slot_of[other] for kind, other in beside[occurrence].items() if other in slot_of}
            before = together.get(slot)
            together[slot] = here if before is None else {k: s for k, s in before.items() if here.get(k) == s}
            owner[slot] = occurrence
    for slot, near in together.items():
        for inner in instance.inner:
            if slot in inner:
                near = {kind: other for kind, other in near.items() if other in inner}
        yield find(owner[slot]), set(near)


def fused(allowed: Mapping[Occurrence, set[Occurrence]], free: Iterable[Occurrence]) -> list[tuple[Occurrence, ...]]:
    """The free classes, those that always occur together put into one tuple."""
    order = list(free)
    rest = dict.fromkeys(order)
    found = []
    for first in order:
        if first not in rest:
            continue
        members = [first]
        for other in rest:
            if other != first and all(_mutual(allowed, other, member) for member in members):
                members.append(other)
        for member in members:
            del rest[member]
        found.append(tuple(members))
    return found


def _mutual(allowed: Mapping[Occurrence, set[Occurrence]], a: Occurrence, b: Occurrence) -> bool:
    return b in allowed.get(a, ()) and a in allowed.get(b, ())
