"""Turns bundles into named groups, each with the largest kind of change that the operations allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.dependence import Selectors, selecting, selectors_of
from permgraph.algebra.instances import Instance
from permgraph.algebra.scales import Freedom
from permgraph.algebra.ties import Resolution
from permgraph.symmetry.derivation.bundles import Bundle, Bundles
from permgraph.symmetry.derivation.changes import Changes
from permgraph.symmetry.derivation.naming import distinct, names_of, prefixed, roles_of
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.tracing.trace import Trace


@dataclass(frozen=True)
class Scales:
    """A further sign or scale for each unit of a bundle: its name, and the other bundles whose index selects it."""

    name: str
    freedom: Freedom
    selects: tuple[Bundle, ...]


@dataclass
class Grouping:
    """The groups of a trace: the bundles, their names, and what each may change."""

    trace: Trace
    resolution: Resolution
    kinds: str = "permutation"
    uniform: Mapping[str, Iterable[str]] = field(default_factory=dict)

    @cached_property
    def bundles(self) -> Bundles:
        """The groups before they have names."""
        return Bundles(self.trace, self.resolution)

    @cached_property
    def changes(self) -> Changes:
        """What the bundles allow beyond permutations."""
        read = {
            kind: [o for o in members if (o.tensor, o.cell) not in self.resolution.unread]
            for kind, members in self.bundles.stored.items()
        }
        return Changes(self.resolution, read, self.bundles.all, self.kinds, self.uniform, self.bundles.selectors)

    @cached_property
    def names(self) -> dict[Bundle, str]:
        """Bundle -> the name of its group, or of the pinned factor that it is."""
        return names_of(self.bundles, self._role)

    @cached_property
    def _role(self) -> dict[Bundle, str]:
        return roles_of(self.bundles)

    def groups(self, aliases: Mapping[str, Sequence[str]]) -> tuple[PermutationGroup, ...]:
        """All groups of more than one unit; `aliases` lists the state-dict keys of each stored tensor."""
        order = {key: k for k, key in enumerate(key for keys in aliases.values() for key in keys)}

        def axes(places: Iterable[Occurrence]) -> tuple[tuple[str, int], ...]:
            keyed = {(key, o.dim) for o in places for key in aliases[o.tensor]}
            return tuple(sorted(keyed, key=lambda axis: (order[axis[0]], axis[1])))

        groups = []
        for bundle, name in self.names.items():
            role, change = self._role[bundle], self.changes.all[bundle]
            members = self.bundles.occurrences(bundle)
            if bundle.free:
                moved = [o for o in members if not (change.kind.mixes and o.tensor in self.changes.held)]
                names, sizes = self._named(bundle.depends_on)
                groups.append(PermutationGroup(name, bundle.size, names, axes(moved), role, sizes, change.kind.value))
            for scales in self.further[bundle]:
                moved = [o for o in members if self.changes.exponent(scales.freedom, o)]
                names, sizes = self._named((*scales.selects, bundle))
                kind = scales.freedom.kind.value
                groups.append(PermutationGroup(scales.name, 1, names, axes(moved), role, sizes, kind))
        return tuple(groups)

    def _named(self, bundles: Sequence[Bundle]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and sizes of bundles."""
        return tuple(self.names[bundle] for bundle in bundles), tuple(bundle.size for bundle in bundles)

    @cached_property
    def further(self) -> dict[Bundle, list[Scales]]:
        """Bundle -> its further signs and scales."""
        given = [(bundle, freedom) for bundle in self.names for freedom in self.changes.all[bundle].further]
        names = distinct(self._scales_name(bundle, freedom) for bundle, freedom in given)
        further: dict[Bundle, list[Scales]] = {bundle: [] for bundle in self.names}
        for name, (bundle, freedom) in zip(names, given, strict=True):
            further[bundle].append(Scales(name, freedom, self._selects(bundle, freedom)))
        return further

    def _scales_name(self, bundle: Bundle, freedom: Freedom) -> str:
        places = [o for o in self.bundles.stored[bundle.classes[0]] if self.changes.exponent(freedom, o)]
        role = self._role[bundle]
        return prefixed(places, role, shared=role != "residual") + ".scales"

    def _selects(self, bundle: Bundle, freedom: Freedom) -> tuple[Bundle, ...]:
        """The bundles whose index, together with the unit, selects the further signs and scales of a bundle's units."""
        support = self.changes.support(bundle, freedom)
        first = bundle.classes[0]
        common = selecting(first, support, self._touching.get(first, []), self.bundles.class_of, self.all_selectors)
        lower = dict.fromkeys(self.bundles.of[kind] for kind in sorted(common) if kind in self.bundles.of)
        return tuple(
            selector
            for selector in lower
            if selector != bundle and not self.changes.all[selector].kind.mixes
            if all(set(inner.classes) <= common for inner in (selector, *selector.depends_on))
        )

    @cached_property
    def _touching(self) -> dict[Occurrence, list[Instance]]:
        """Class -> the joint cells of operations in which it occurs."""
        touching: dict[Occurrence, list[Instance]] = {}
        for instance in self.resolution.instances:
            for kind in {self.bundles.class_of(o) for operand in instance.operands for o in operand.values()}:
                touching.setdefault(kind, []).append(instance)
        return touching

    @cached_property
    def all_selectors(self) -> Selectors:
        """As `bundles.selectors`, including pinned factors, whose units may take signs and scales."""
        return self.bundles.selectors if self.kinds == "permutation" else selectors_of(self.resolution, pinned=True)
