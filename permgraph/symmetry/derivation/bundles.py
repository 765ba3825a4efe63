"""Bundles: groups before they have names, as classes of occurrences whose product is one index set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.dependence import Selectors, dependencies, fused, selectors_of
from permgraph.algebra.ties import Resolution
from permgraph.tracing.trace import Trace


@dataclass(frozen=True)
class Bundle:
    """One group before it has a name: the classes whose product it moves, and the bundles it depends on."""

    classes: tuple[Occurrence, ...]
    size: int
    depends_on: tuple[Bundle, ...]
    free: bool


@dataclass
class Bundles:
    """The bundles of a trace, and where each class of occurrences is stored."""

    trace: Trace
    resolution: Resolution

    @cached_property
    def of(self) -> dict[Occurrence, Bundle]:
        """Class -> its bundle, for all classes that occur on parameters."""
        made: dict[Occurrence, Bundle] = {}
        for kind in self._together:
            self._add(kind, made, ())
        return made

    @cached_property
    def all(self) -> tuple[Bundle, ...]:
        """Each bundle once."""
        return tuple(dict.fromkeys(self.of.values()))

    @cached_property
    def stored(self) -> dict[Occurrence, list[Occurrence]]:
        """Class -> its occurrences on parameters and buffers, without those in cells that were merged into others."""
        layouts = self.resolution.layouts
        tensors = {name for name, value in self.trace.values.items() if value.kind in ("parameter", "buffer")}
        stored = {
            kind: [o for o in members if o.tensor in tensors and o.cell not in layouts[o.tensor].absorbed]
            for kind, members in self.resolution.factors.classes.items()
        }
        return {kind: members for kind, members in stored.items() if members}

    def occurrences(self, bundle: Bundle) -> list[Occurrence]:
        """Where the classes of a bundle are stored."""
        return [occurrence for kind in bundle.classes for occurrence in self.stored[kind]]

    @cached_property
    def selectors(self) -> Selectors:
        """For each occurrence that may move: class -> the occurrence that may select its permutation."""
        return selectors_of(self.resolution)

    def class_of(self, occurrence: Occurrence) -> Occurrence:
        """The class of an occurrence: the one that stands for all that are tied to it."""
        return self.resolution.factors.find(occurrence)

    def size_of(self, occurrence: Occurrence) -> int:
        """How many units an occurrence has."""
        return self.resolution.layouts[occurrence.tensor].size(occurrence)

    @cached_property
    def _allowed(self) -> Mapping[Occurrence, set[Occurrence]]:
        """Class -> the classes whose index its permutation may depend on."""
        return dependencies(self.resolution, self.selectors)

    @cached_property
    def _together(self) -> dict[Occurrence, tuple[Occurrence, ...]]:
        """Class -> the classes that are one bundle with it; those of pinned classes are bundles of one."""
        pinned = self.resolution.factors.pinned
        free = [kind for kind in self.stored if kind not in pinned]
        bundled = fused(self.resolution, self._allowed, self.selectors, free)
        together = {kind: members for members in bundled for kind in members}
        return together | {kind: (kind,) for kind in self.stored if kind in pinned}

    def _add(self, kind: Occurrence, made: dict[Occurrence, Bundle], above: tuple[Occurrence, ...]) -> Bundle:
        """Make the bundle of a class, after those it depends on; `above` are the classes that wait for it."""
        if kind in made:
            return made[kind]
        members = self._together[kind]
        common = set.intersection(*(self._allowed.get(member, set()) for member in members)) - set(members)
        lower = [
            self._add(selector, made, (*above, *members))
            for selector in sorted(common)
            if selector in self._together and selector not in above and set(self._together[selector]) <= common
        ]
        needs = [
            bundle
            for bundle in dict.fromkeys(lower)
            if all(set(inner.classes) <= common for inner in bundle.depends_on)
        ]
        free = kind not in self.resolution.factors.pinned
        size = prod(self.size_of(member) for member in members)
        bundle = Bundle(members, size, tuple(sorted(needs, key=lambda b: b.classes)) if free else (), free)
        made.update(dict.fromkeys(members, bundle))
        return bundle
