"""Which changes of basis, beyond permutations, the operations of a trace allow: their laws, read into bases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product

from permgraph.algebra.bases import Bases
from permgraph.algebra.cells import Occurrence
from permgraph.algebra.instances import Instance, Slot
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import Law
from permgraph.algebra.relations import Source
from permgraph.algebra.ties import Resolution

Segment = tuple[int, int, str, int, int]
"""Of a relation: the operand, and a leaf of a box of one of its variables."""
CONSTANT = "adds what is the same for all of its units"


def bases(resolution: Resolution, largest: Kind, held: Set[str]) -> Bases:
    """The bases of a trace, none larger than `largest`; `held` names vectors that stay uniform and bound nothing."""
    allowed = Bases(largest)
    segments: dict[Segment, Occurrence] = {}
    for instance in resolution.instances:
        _read(instance, allowed, held)
        _join(instance, allowed, segments)
    for layout in resolution.layouts.values():
        if layout.value.largest is not Kind.INVERTIBLE:
            for cell in layout.cells():
                for occurrence, _ in layout.occurrences(cell):
                    allowed.limit(
                        occurrence, layout.value.largest, "whole numbers or truth values", layout.value.source
                    )
    rigid = {pin.occurrence: pin.reason for pin in resolution.factors.pins if pin.rigid}
    diagonal = dict.fromkeys(resolution.factors.diagonal, "one index twice on one tensor")
    for occurrence, why in sorted({**diagonal, **rigid}.items()):
        allowed.limit(occurrence, Kind.PERMUTATION, why)
    return allowed


def multipliers(resolution: Resolution, images: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """The named tensors that every operation reads as a factor of a product with another tensor.

    `images`: tensor -> the tensors computed from it element by element, which are read in its place.
    """
    owner = {one: name for name, made in images.items() for one in (name, *made)}
    left = set(images)
    for instance in resolution.instances:
        owners = {owner.get(operand.value.name) for operand in instance.relation.operands}
        for place, operand in zip(instance.places, instance.operands, strict=True):
            for slot, occurrence in operand.items():
                name = owner.get(occurrence.tensor)
                if name in left and owners != {name} and not _multiplies(instance, place, slot):
                    left.discard(name)
    return frozenset(left)


def _multiplies(instance: Instance, place: int, slot: Slot) -> bool:
    law = instance.relation.laws.get(slot[0])
    carrying = {k for k, operand in zip(instance.places, instance.operands, strict=True) if slot in operand}
    return law is not None and any(place in term and carrying & (set(term) - {place}) for term in law.terms)


def _read(instance: Instance, found: Bases, held: Set[str]) -> None:
    relation = instance.relation
    carriers: dict[Slot, dict[int, list[Occurrence]]] = {}
    for place, operand in zip(instance.places, instance.operands, strict=True):
        for slot, occurrence in operand.items():
            carriers.setdefault(slot, {}).setdefault(place, []).append(occurrence)
    for slot, by_place in carriers.items():
        law = relation.laws.get(slot[0])
        if law is None:
            _limit_all(found, by_place, Kind.PERMUTATION, relation.source)
        elif not law.terms and not law.loose:
            _same(found, by_place, set(instance.places), relation.source)
        elif not law.loose:
            _Reading(found, law, by_place, relation.given, held, relation.source).read()


def _join(instance: Instance, found: Bases, segments: dict[Segment, Occurrence]) -> None:
    """Let an operand change alike in all segments of other indices if a law takes statistics over these."""
    relation = instance.relation
    whole = {name: k for k, name in enumerate(relation.variables) if (law := relation.laws.get(name)) and law.whole}
    for place, operand in zip(instance.places, instance.operands, strict=True) if whole else ():
        for (name, leaf), occurrence in operand.items():
            if name in whole:
                box = instance.choice[whole[name]]
                first = segments.setdefault((id(relation), place, name, box, leaf), occurrence)
                found.link(first, occurrence, 1, relation.source)


def _limit_all(found: Bases, by_place: Mapping[int, Sequence[Occurrence]], kind: Kind, source: Source) -> None:
    for occurrences in by_place.values():
        for occurrence in occurrences:
            found.limit(occurrence, kind, kind.facts.bound, source)


def _same(found: Bases, by_place: Mapping[int, Sequence[Occurrence]], present: set[int], source: Source) -> None:
    """All tensors have the same elements; one that is constant along the variable fixes the vector of ones."""
    first, *others = [occurrence for occurrences in by_place.values() for occurrence in occurrences]
    found.find(first)
    for other in others:
        found.link(first, other, 1, source)
    if present - by_place.keys():
        found.limit(first, Kind.CENTRED, CONSTANT, source)


@dataclass(frozen=True)
class _Reading:
    """Applies a law at one slot, given the occurrences that carry it."""

    found: Bases
    law: Law
    by_place: Mapping[int, Sequence[Occurrence]]
    given: int
    held: Set[str]
    source: Source

    def read(self) -> None:
        outs = [o for place, members in self.by_place.items() for o in members if place >= self.given]
        for out in outs:
            self.found.find(out)
            if self.law.affine:
                self.found.limit(out, Kind.CENTRED, CONSTANT, self.source)
        for place, kind in self.law.within.items():
            _limit_all(self.found, {place: self.by_place.get(place, ())}, kind, self.source)
        for term in self.law.terms:
            for chosen in product(*(self.by_place[place] for place in term if place in self.by_place)):
                places = (place for place in term if place in self.by_place)
                self._term(list(zip(places, chosen, strict=True)), outs)

    def _term(self, members: list[tuple[int, Occurrence]], outs: Sequence[Occurrence]) -> None:
        if len(members) > 1:
            members = [(place, o) for place, o in members if o.tensor not in self.held] or members
        divided = [place in self.law.inverse for place, _ in members]
        if not outs or self.law.summed:
            self._contracted(members, divided)
            return
        for out in outs:
            if not members:
                self.found.limit(out, Kind.CENTRED, CONSTANT, self.source)
            elif self.law.even or self.law.unsized or self.law.power != 1:
                self._bent(members, out)
            elif len(members) == 1 and not divided[0]:
                self.found.link(members[0][1], out, 1, self.source)
            else:
                self.found.equate(self._exponents(members), out, source=self.source)

    def _bent(self, members: Sequence[tuple[int, Occurrence]], out: Occurrence) -> None:
        """Scales and signs reach the result by different powers."""
        power, even = self.law.power, self.law.even
        sized = [(o, power.numerator) for place, o in members if place not in self.law.unsized]
        signed = [] if even else [(o, 1) for _, o in members]
        for member in [*(o for _, o in members), out]:
            self.found.limit(member, Kind.MONOMIAL, Kind.MONOMIAL.facts.bound, self.source)
        self.found.equate(sized, out, power=power.denominator, moduli=[0], source=self.source)
        self.found.equate(signed, out, moduli=[2], source=self.source)

    def _contracted(self, members: list[tuple[int, Occurrence]], divided: Sequence[bool]) -> None:
        if len(members) == 1:
            self.found.limit(members[0][1], Kind.CENTRED, Kind.CENTRED.facts.bound, self.source)
        elif len(members) == 2 and not any(divided):
            self.found.link(members[0][1], members[1][1], -1, self.source)
        elif members:
            self.found.equate(self._exponents(members), source=self.source)

    def _exponents(self, members: Iterable[tuple[int, Occurrence]]) -> list[tuple[Occurrence, int]]:
        return [(o, -1 if place in self.law.inverse else 1) for place, o in members]
