"""The objective of weight matching, F(π) = Σ <θ_A, πθ_B>, over the sites where groups act."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from permgraph.assignment.problem import Term
from permgraph.checkpoints.lazy_state import rows_of
from permgraph.matching.weights.doubly_stochastic import gather
from permgraph.matching.weights.effort import EFFORT, SIZES, Effort
from permgraph.matching.weights.prior import Prior, mixed
from permgraph.matching.weights.sites import Action, Axes, Site, sites, unit_sources
from permgraph.matching.weights.wide import wide_groups
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass(frozen=True, eq=False)
class Pairing:
    """The groups that may move, and the sites of A and B where they act; computed on the CPU in `dtype`."""

    groups: tuple[PermutationGroup, ...]
    sites: tuple[Site, ...]
    state_a: Mapping[str, Tensor]
    state_b: Mapping[str, Tensor]
    dtype: torch.dtype
    priors: tuple[Prior, ...] = ()
    effort: Effort = EFFORT

    @classmethod
    def of(
        cls,
        spec: PermutationSpec,
        groups: Sequence[PermutationGroup],
        state_a: Mapping[str, Tensor],
        state_b: Mapping[str, Tensor],
        effort: Effort = EFFORT,
    ) -> Pairing:
        """All sites of `groups`; float64 for small models, float32 for large ones."""
        found = tuple(part for site in sites(spec, groups) for part in site.cut(SIZES.whole))
        small = sum(site.cell.size for site in found) < effort.double_below
        dtype = torch.float64 if small else torch.float32
        return cls(tuple(groups), found, state_a, state_b, dtype, effort=effort)

    @property
    def size(self) -> int:
        """How many elements of a model the groups move."""
        return sum(site.cell.size for site in self.sites)

    @cached_property
    def depends(self) -> dict[str, Axes]:
        """Group -> what selects its permutation."""
        return {group.name: group.depends_on for group in self.groups}

    @cached_property
    def pinned(self) -> dict[str, int]:
        """Sizes of everything that some group depends on."""
        return {n: s for g in self.groups for n, s in zip(g.depends_on, g.depends_sizes, strict=True)}

    @cached_property
    def wide(self) -> frozenset[str]:
        """The groups that are matched without a matrix of all their units."""
        known = {name for prior in self.priors for name in prior.axes}
        return wide_groups([group for group in self.groups if group.name not in known], self.sites, SIZES.wide_above)

    def a(self, site: Site) -> Tensor:
        """A's side of a site, [atoms..., rest]."""
        return self._read(self.state_a, site)

    def b(self, site: Site) -> Tensor:
        """B's side of a site, unmoved."""
        return self._read(self.state_b, site)

    def _read(self, state: Mapping[str, Tensor], site: Site) -> Tensor:
        value = state[site.name] if site.rows is None else rows_of(state, site.name, site.rows)
        return site.tensor(value.detach().to("cpu", self.dtype))

    def moved(self, site: Site, tables: Mapping[str, Index], free: Collection[int] = ()) -> Tensor:
        """B's side with every action applied but those numbered in `free`."""
        held = [action for k, action in enumerate(site.actions) if k not in free]
        return self.at(site, {action.axes: self.index(action, site, tables) for action in held}, free)

    def at(self, site: Site, sources: Mapping[Axes, Index], free: Collection[int] = ()) -> Tensor:
        """B's side with the units of every action but those numbered in `free` taken from `sources`."""
        held = [k for k in range(len(site.actions)) if k not in free]
        return gather(self.b(site), [site.spans[k] for k in held], [sources[site.actions[k].axes] for k in held])

    def index(self, action: Action, site: Site, tables: Mapping[str, Index]) -> Index:
        """Flat sources of the units of an action."""
        return unit_sources(action.axes, site.sizes(action), self.depends, tables)

    def with_activations(self, terms: Sequence[Term], mix: float, most: float | None = None) -> Pairing:
        """The same with a share `mix` from correlations: see `mixed`. `most` is the bound of F by default."""
        most = sum(self.bound(site) for site in self.sites) if most is None else most
        return replace(self, priors=mixed(self.groups, terms, mix, most, self.dtype))

    def value(self, tables: Mapping[str, Index]) -> float:
        """F at an element of the group, priors included."""
        weights = sum(
            matched(self.a(site), self.b(site), site.spans, [self.index(x, site, tables) for x in site.actions])
            for site in self.sites
        )
        return weights + sum(prior.at(self.depends, tables) for prior in self.priors)

    def bound(self, site: Site) -> float:
        """|A| |B| on a site: by Cauchy and Schwarz no element reaches more."""
        return self._unmoved[id(site)][0]

    def unmoved(self) -> float:
        """F at the identity, read in one pass with the bounds."""
        tables = {group.name: group.identity() for group in self.groups}
        weights = sum(value for _, value in self._unmoved.values())
        return weights + sum(prior.at(self.depends, tables) for prior in self.priors)

    @cached_property
    def _unmoved(self) -> dict[int, tuple[float, float]]:
        """Site -> its bound, and <A, B>."""
        found = {}
        for site in self.sites:
            a, b = self.a(site), self.b(site)
            found[id(site)] = norm(a) * norm(b), dot(a, b)
        return found


def slabs(count: int, size: int, of: int | None = None) -> Iterator[slice]:
    """Slices of at most `SIZES.slab` elements that cover `of` rows, or all; `count` rows have `size` elements."""
    of, step = count if of is None else of, max(1, SIZES.slab * count // max(size, 1))
    return (slice(first, min(first + step, of)) for first in range(0, of, step))


def dot(a: Tensor, b: Tensor) -> float:
    """<a, b>: float32 products are summed a row at a time, and the rows in float64."""
    parts = ((a[some] * b[some]).flatten(1).sum(1).sum(dtype=torch.float64) for some in slabs(len(a), a.numel()))
    return float(sum(parts))


def matched(a: Tensor, b: Tensor, spans: Sequence[tuple[int, ...]], indices: Sequence[Index]) -> float:
    """<a, gather(b, spans, indices)>, in slabs where each action has an atom of its own and one has the first."""
    if (0,) not in spans or any(len(span) > 1 for span in spans):
        return dot(a, gather(b, spans, indices))
    first = list(spans).index((0,))
    total = 0.0
    for some in slabs(len(a), a.numel()):
        chosen = [index[some] if k == first else index for k, index in enumerate(indices)]
        total += dot(a[some], gather(b, spans, chosen))
    return total


def norm(a: Tensor) -> float:
    """|a|, summed as `dot` does, so that <a, a> never exceeds |a|² by more than rounding."""
    return float(dot(a, a) ** 0.5)
