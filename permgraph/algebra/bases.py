"""Which changes of basis, beyond permutations, the operations of a trace allow.

If a law links two occurrences of a factor, they change by one matrix M, or by M and M⁻ᵀ: the two *sides* of a basis.
The links form classes of occurrences inside a factor, the bases, each with a bound in the lattice of kinds. Products
relate bases of one factor: these may only have signs and scales, which multiply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import product

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.instances import Instance, Slot
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import Law
from permgraph.algebra.relations import Source
from permgraph.algebra.ties import Resolution

Segment = tuple[int, int, str, int, int]
"""Of a relation: the operand, and a leaf of a box of one of its variables."""
CONSTANT = "adds what is the same for all of its units"
Equation = dict[Occurrence, int]
"""Σ exponent · log scale = 0 over bases, each named by its representative."""


@dataclass(frozen=True)
class Limit:
    """What bounds a basis: the remaining kind, the operation, and the reason."""

    kind: Kind
    source: Source | None
    what: str

    def __str__(self) -> str:
        return f"{self.source}: {self.what}" if self.source is not None else self.what


@dataclass
class Bases:
    """Union-find with sides over occurrences, a bound for each class, and the equations between classes."""

    largest: Kind
    _parent: dict[Occurrence, tuple[Occurrence, int]] = field(default_factory=dict)
    _bound: dict[Occurrence, Kind] = field(default_factory=dict)
    _why: dict[Occurrence, list[Limit]] = field(default_factory=dict)
    _equations: dict[int, list[Equation]] = field(default_factory=lambda: {0: [], 2: []})

    def __contains__(self, occurrence: Occurrence) -> bool:
        """Whether some law mentions the occurrence."""
        return occurrence in self._parent

    def find(self, occurrence: Occurrence) -> tuple[Occurrence, int]:
        """The representative of the basis, and the side of the occurrence: 1 if it changes alike, -1 for M⁻ᵀ."""
        parent = self._parent
        path, root, side = [], occurrence, 1
        if root not in parent:
            parent[root], self._bound[root] = (root, 1), self.largest
        while parent[root][0] != root:
            path.append(root)
            root = parent[root][0]
        for node in reversed(path):
            side *= parent[node][1]
            parent[node] = root, side
        return root, side

    def bound(self, occurrence: Occurrence) -> Kind:
        """The largest kind that all operations on the basis allow."""
        return self._bound[self.find(occurrence)[0]]

    def limits(self, occurrence: Occurrence) -> list[Limit]:
        """What bounds the basis of an occurrence: without any of these, the bound might be larger."""
        bound, found = self.largest, list[Limit]()
        for limit in self._why.get(self.find(occurrence)[0], ()):
            if (lower := bound.meet(limit.kind)) is not bound:
                bound = lower
                found.append(limit)
        return found

    def limit(self, occurrence: Occurrence, kind: Kind, what: str, source: Source | None = None) -> None:
        """Bound the basis of an occurrence; `what` is the reason, about the operation `source`."""
        root, _ = self.find(occurrence)
        bound = self._bound[root].meet(kind)
        if bound is not self._bound[root]:
            self._bound[root] = bound
            self._why.setdefault(root, []).append(Limit(kind, source, what))

    def link(self, a: Occurrence, b: Occurrence, side: int, source: Source | None = None) -> None:
        """Let `a` and `b` change by one matrix, on one side (1) or opposite sides (-1); both make it orthogonal."""
        (root_a, side_a), (root_b, side_b) = self.find(a), self.find(b)
        if root_a == root_b:
            if side_a * side_b != side:
                self.limit(a, Kind.ORTHOGONAL, "contracts it with itself", source)
            return
        first, second = sorted((root_a, root_b))
        self._parent[second] = first, side * side_a * side_b
        self._bound[first] = self._bound[first].meet(self._bound.pop(second))
        if second in self._why:
            self._why.setdefault(first, []).extend(self._why.pop(second))

    def equate(
        self,
        factors: Sequence[tuple[Occurrence, int]],
        result: Occurrence | None = None,
        *,
        power: int = 1,
        moduli: Iterable[int] = (0, 2),
        source: Source | None = None,
    ) -> None:
        """Let Π scale^exponent = scale(result)^power for scales (modulus 0), signs (2), or both; 1 without a result.

        Their bases are monomial.
        """
        found: Equation = defaultdict(int)
        for occurrence, exponent in [*factors, *([(result, -power)] if result is not None else [])]:
            others = dict.fromkeys(o.tensor for o, _ in factors if o.tensor != occurrence.tensor)
            what = f"multiplies it by {', '.join(others)}" if others else "multiplies it by itself"
            self.limit(occurrence, Kind.MONOMIAL, what, source)
            found[occurrence] += exponent
        for modulus in moduli:
            self._equations[modulus].append(dict(found))

    @property
    def occurrences(self) -> Iterable[Occurrence]:
        """All occurrences that laws mention, in first-seen order."""
        return self._parent

    def equations(self, modulus: int) -> list[Equation]:
        """All equations of scales (0) or signs (2) between representatives, each once, with its result last."""
        found: dict[tuple[tuple[Occurrence, int], ...], Equation] = {}
        for equation in self._equations[modulus]:
            here: Equation = defaultdict(int)
            for occurrence, exponent in equation.items():
                root, side = self.find(occurrence)
                here[root] += side * exponent
            found.setdefault(tuple(here.items()), dict(here))
        return list(found.values())


def bases(resolution: Resolution, largest: Kind, held: Set[str]) -> Bases:
    """The bases of a trace, none larger than `largest`; `held` names vectors that stay uniform and bound nothing."""
    found = Bases(largest)
    segments: dict[Segment, Occurrence] = {}
    for instance in resolution.instances:
        _read(instance, found, held)
        _join(instance, found, segments)
    for layout in resolution.layouts.values():
        if layout.value.largest is not Kind.INVERTIBLE:
            for cell in layout.cells():
                for occurrence, _ in layout.occurrences(cell):
                    found.limit(occurrence, layout.value.largest, "whole numbers or truth values", layout.value.source)
    rigid = {pin.occurrence: pin.reason for pin in resolution.factors.pins if pin.rigid}
    diagonal = dict.fromkeys(resolution.factors.diagonal, "one index twice on one tensor")
    for occurrence, why in sorted({**diagonal, **rigid}.items()):
        found.limit(occurrence, Kind.PERMUTATION, why)
    return found


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
