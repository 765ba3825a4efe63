"""What a factor allows in addition to permutations: its kind, and further signs and scales of its units.

A factor of n units whose bases mix is transformed by matrices. Otherwise its units take signs and scales: as many
numbers for each unit as the equations between its bases leave free. The first number belongs to the factor's own group,
a signed, scaled or monomial one; each further number is a group of size 1 that depends on the factor: R⁺ wr Sym(n) is
the positive monomial group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from permgraph.algebra.allowed import bases, multipliers
from permgraph.algebra.bases import Bases, Equation, Limit
from permgraph.algebra.cells import Occurrence
from permgraph.algebra.kinds import Kind
from permgraph.algebra.relations import Source
from permgraph.algebra.scales import Freedom, freedoms, independent
from permgraph.algebra.ties import Resolution
from permgraph.symmetry.derivation.bundles import Bundle

LARGEST = {"permutation": Kind.PERMUTATION, "signed": Kind.SIGNED, "all": Kind.INVERTIBLE}


@dataclass(frozen=True)
class Change:
    """The kind of a bundle's own group, its exponent at each basis, and further signs and scales.

    `own`: basis -> exponent of the group there; for matrices the exponents are sides, 1 or -1.
    """

    kind: Kind
    own: Mapping[Occurrence, int]
    further: tuple[Freedom, ...] = ()


@dataclass
class Changes:
    """The changes of all bundles of a model.

    `uniform`: parameter whose elements are all equal -> the tensors computed from it that are also uniform.
    `selectors`: an occurrence -> for each class, the occurrence of that class in the same cell.
    """

    resolution: Resolution
    stored: Mapping[Occurrence, Sequence[Occurrence]]
    bundles: Sequence[Bundle]
    kinds: str
    uniform: Mapping[str, Iterable[str]]
    selectors: Mapping[Occurrence, Mapping[Occurrence, Occurrence]]

    def __post_init__(self) -> None:
        self.largest = LARGEST[self.kinds]
        self.held: frozenset[str] = frozenset()
        if self.largest is Kind.PERMUTATION:
            return
        self.held = multipliers(self.resolution, self.uniform)
        self.bases = self._wished = self._bases()
        kept = frozenset(name for name in self.held if self._is_between_matrices(name))
        if kept != self.held:
            self.held = kept
            self.__dict__.pop("_roots", None)
            self.__dict__.pop("_equations", None)
            self.bases = self._bases()

    def _bases(self) -> Bases:
        uniform = self.held.union(*(self.uniform[name] for name in self.held))
        allowed = bases(self.resolution, self.largest, uniform)
        for bundle in self.bundles:
            for lower in bundle.depends_on if bundle.free else ():
                for kind in lower.classes:
                    for occurrence in self.stored[kind]:
                        allowed.limit(occurrence, Kind.MONOMIAL, "its index selects the map of other units")
        return allowed

    def _is_between_matrices(self, name: str) -> bool:
        find = self.resolution.factors.find
        classes = {find(o) for members in self.stored.values() for o in members if o.tensor == name}
        return any(self._mixed(bundle) for bundle in self.bundles if classes & set(bundle.classes))

    def power(self, change: Change, occurrence: Occurrence) -> int:
        """The exponent with which the bundle's own group acts on an occurrence; 0 where it only permutes."""
        if change.kind is Kind.PERMUTATION:
            return 1
        root, side = self.bases.find(occurrence)
        if change.kind.mixes:  # a square, for example, is in the factor and not in its basis
            return side if root in change.own and occurrence.tensor not in self.held else 0
        return change.own.get(root, 0) * side

    def support(self, bundle: Bundle, freedom: Freedom) -> set[Occurrence]:
        """All occurrences, of activations too, that a further sign or scale changes."""
        members = self.resolution.factors.classes[bundle.classes[0]]
        return {o for o in members if o in self.bases and self.exponent(freedom, o)}

    def exponent(self, freedom: Freedom, occurrence: Occurrence) -> int:
        """The exponent of a further sign or scale at an occurrence."""
        root, side = self.bases.find(occurrence)
        return freedom.exponents.get(root, 0) * side

    @cached_property
    def all(self) -> dict[Bundle, Change]:
        """Bundle -> its change; dependent bundles come first, so that their numbers are not counted twice."""
        changes: dict[Bundle, Change] = {}
        for bundle in sorted(self.bundles, key=lambda b: -len(b.depends_on)):
            changes[bundle] = self._change(bundle, changes)
        return {bundle: changes[bundle] for bundle in self.bundles}

    def _change(self, bundle: Bundle, above: Mapping[Bundle, Change]) -> Change:
        if self.largest is Kind.PERMUTATION:
            return Change(Kind.PERMUTATION, {})
        mixed = self._mixed(bundle)
        if mixed is not None:
            moved = [o for kind in bundle.classes for o in self._moved(kind)]
            return Change(mixed, {self.bases.find(o)[0]: 1 for o in moved})
        left = (self._left(bundle, freedom, above) for freedom in self._freedoms(bundle))
        new = [freedom for freedom in left if freedom is not None]
        own = self._main(bundle, new) if bundle.free else None
        further = tuple(freedom for freedom in new if freedom is not own)
        return Change(Kind.PERMUTATION, {}, further) if own is None else Change(own.kind, own.exponents, further)

    def _main(self, bundle: Bundle, new: Sequence[Freedom]) -> Freedom | None:
        """The freedom that changes most axes of the bundle, if it changes more than half; else None."""
        bases = [self.bases.find(o)[0] for o in self._moved(bundle.classes[0])]
        reach = {k: sum(base in freedom.exponents for base in bases) for k, freedom in enumerate(new)}
        best = max(reach, key=lambda k: (reach[k], new[k].kind is Kind.SIGNED), default=None)
        return None if best is None or 2 * reach[best] <= len(bases) else new[best]

    def reasons(self, bundle: Bundle) -> tuple[str, ...]:
        """Why the kind of a bundle's group is no larger: for each operation that bounds it, the best reason."""
        if self.largest is Kind.PERMUTATION:
            return ()
        stored = {o.tensor for members in self.stored.values() for o in members}
        by_operation: dict[tuple[Source | None, Kind], list[str]] = {}
        for limit in dict.fromkeys(self._limits(bundle)):
            by_operation.setdefault((limit.source, limit.kind), []).append(str(limit))
        reasons = [
            next((reason for reason in given if any(reason.endswith(f" by {name}") for name in stored)), given[0])
            for given in by_operation.values()
        ]
        if self.largest is Kind.INVERTIBLE and not self._on_one_side(bundle):
            reasons.append("its axes are one index here and several there, on different sides of products")
        return tuple(reasons)

    def _limits(self, bundle: Bundle) -> list[Limit]:
        """The limits that would bound a bundle even if all uniform vectors were held, as after folding; else all."""
        return list(self._bounding(bundle, self._wished)) or list(self._bounding(bundle, self.bases))

    def _bounding(self, bundle: Bundle, among: Bases) -> Iterator[Limit]:
        """The limits of the bases that most axes of a bundle have, and of others as far as its kind needs them."""
        moved = [o for kind in bundle.classes for o in self._moved(kind) if o in among]
        bound = self.largest
        for root, _ in Counter(among.find(o)[0] for o in moved).most_common():
            if bound is self.all[bundle].kind:
                return
            bound = bound.meet(among.bound(root))
            yield from among.limits(root)

    def _moved(self, kind: Occurrence) -> list[Occurrence]:
        return [o for o in self.stored[kind] if o.tensor not in self.held]

    def _mixed(self, bundle: Bundle) -> Kind | None:
        """The kind of a bundle that is transformed by matrices, else None."""
        if not bundle.free:
            return None
        kind = self.largest
        for member in bundle.classes:
            moved = self._moved(member)
            if not moved or any(o not in self.bases for o in moved):
                return None
            if len({self.bases.find(o)[0] for o in moved}) > 1:
                return None
            kind = kind.meet(self.bases.bound(moved[0]))
        if not self._on_one_side(bundle):
            kind = kind.meet(Kind.ORTHOGONAL)
        return kind if kind.mixes else None

    def _on_one_side(self, bundle: Bundle) -> bool:
        """Whether the classes of a bundle are always on the same side, so that their product has one side."""
        first, *others = bundle.classes
        members = [o for o in self.resolution.factors.classes[first] if o in self.selectors]
        for other in others:
            pairs = [(o, self.selectors[o].get(other)) for o in members]
            if any(a not in self.bases or b is None or b not in self.bases for a, b in pairs):
                return False
            if len({self.bases.find(a)[1] * self.bases.find(b)[1] for a, b in pairs if b is not None}) > 1:
                return False
        return True

    def _freedoms(self, bundle: Bundle) -> list[Freedom]:
        first = bundle.classes[0]
        moved = self._moved(first)
        if not moved or any(o not in self.bases for o in moved):
            return []
        bounds = {root: self.bases.bound(root) for root in self._roots[first]}
        return freedoms(
            bounds,
            {modulus: found.get(first, []) for modulus, found in self._equations.items()},
            {self.bases.find(o)[0] for o in moved},
        )

    @cached_property
    def _roots(self) -> dict[Occurrence, list[Occurrence]]:
        """Class -> its bases."""
        found: defaultdict[Occurrence, dict[Occurrence, None]] = defaultdict(dict)
        for occurrence in list(self.bases.occurrences):
            found[self.resolution.factors.find(occurrence)][self.bases.find(occurrence)[0]] = None
        return {kind: list(roots) for kind, roots in found.items()}

    @cached_property
    def _equations(self) -> dict[int, dict[Occurrence, list[Equation]]]:
        """For scales (0) and signs (2): class -> the equations between its bases."""
        equations: dict[int, dict[Occurrence, list[Equation]]] = {0: {}, 2: {}}
        for modulus, by_class in equations.items():
            for equation in self.bases.equations(modulus):
                kind = self.resolution.factors.find(next(iter(equation)))
                by_class.setdefault(kind, []).append(equation)
        return equations

    def _left(self, bundle: Bundle, freedom: Freedom, above: Mapping[Bundle, Change]) -> Freedom | None:
        """The part of a freedom that bundles depending on this one do not have, as one number for all of its units."""
        signs = freedom.kind.has_signs and self._is_new(bundle, freedom, above, modulus=2)
        scales = freedom.kind.has_scales and self._is_new(bundle, freedom, above, modulus=0)
        if not (signs or scales):
            return None
        kind = Kind.MONOMIAL if signs and scales else Kind.SIGNED if signs else Kind.SCALED
        return Freedom(kind, freedom.exponents)

    def _is_new(self, bundle: Bundle, freedom: Freedom, above: Mapping[Bundle, Change], *, modulus: int) -> bool:
        """Whether the signs (modulus 2) or scales (0) of a freedom are independent of those in `above`."""
        held = [
            vector
            for dependent, change in above.items()
            if bundle in dependent.depends_on
            for vector in self._vectors(dependent, change, modulus)
        ]
        return not held or independent(held, self._vector(bundle.classes[0], freedom.exponents), modulus=modulus)

    def _vectors(self, bundle: Bundle, change: Change, modulus: int) -> list[dict[tuple[str, tuple[int, ...]], int]]:
        sides = dict.fromkeys(self._roots[bundle.classes[0]], 1) if change.kind.mixes else change.own
        kinds = [(change.kind, sides), *((freedom.kind, freedom.exponents) for freedom in change.further)]
        held = [exponents for kind, exponents in kinds if (kind.has_signs if modulus else kind.has_scales)]
        return [self._vector(bundle.classes[0], exponents) for exponents in held if exponents]

    def _vector(self, kind: Occurrence, exponents: Mapping[Occurrence, int]) -> dict[tuple[str, tuple[int, ...]], int]:
        """(tensor, cell) -> the exponent there."""
        exponent_at: defaultdict[tuple[str, tuple[int, ...]], int] = defaultdict(int)
        for occurrence in self._moved(kind):
            root, side = self.bases.find(occurrence)
            if exponents.get(root):
                exponent_at[occurrence.tensor, occurrence.cell] += exponents[root] * side
        return exponent_at
