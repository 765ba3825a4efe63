"""Weight matching: maximise Σ <θ_A, πθ_B> over all groups at once, by coordinate descent from the identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from permgraph.layout import Index
from permgraph.matching.assignment import Term, breakdown, objective, solve
from permgraph.matching.places import Family, Place, families, places
from permgraph.permutations import PermutationGroup
from permgraph.spec import PermutationSpec

MOST_SWEEPS = 50
ENOUGH = 1e-9  # a sweep that gains less than this share of the objective is the last


@dataclass(frozen=True)
class WeightMatch:
    """Tables of the groups that were moved, (identity, solution) objectives by group, and how the search ended."""

    tables: dict[str, Index]
    gains: dict[str, tuple[float, float]]
    sweeps: int
    converged: bool


def match_weights(
    spec: PermutationSpec,
    groups: Sequence[PermutationGroup],
    state_a: Mapping[str, Tensor],
    state_b: Mapping[str, Tensor],
    *,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> WeightMatch:
    """Coordinate descent: one family of nested groups after the other is assigned, the others held, until none gains.

    A local optimum that can be far from the best on residual networks. Source: Git Re-Basin (arXiv 2209.04836),
    algorithm 1, with nested assignment in place of a flat one.
    """
    search = _Search(spec, state_a, state_b, {group.name: group.identity() for group in spec.groups})
    parts = [(family, places(spec, family)) for family in families(groups)]
    sweeps, converged = 0, False
    while not converged and sweeps < MOST_SWEEPS:
        sweeps += 1
        steps = [search.improve(family, where) for family, where in parts]
        converged = sum(gain for gain, _ in steps) <= ENOUGH * max(sum(abs(value) for _, value in steps), 1e-300)
        if progress is not None:
            progress("weight matching, sweeps", sweeps, None)
    gains = {name: pair for family, where in parts for name, pair in search.gains(family, where).items()}
    return WeightMatch({g.name: search.tables[g.name] for g in groups}, gains, sweeps, converged)


@dataclass
class _Search:
    spec: PermutationSpec
    state_a: Mapping[str, Tensor]
    state_b: Mapping[str, Tensor]
    tables: dict[str, Index]

    def terms(self, where: Sequence[Place]) -> list[Term]:
        """Inner products of A's units with B's at every place, B's other axes moved; summed where axes agree."""
        found: dict[tuple[str, ...], np.ndarray] = {}
        for place in where:
            a = place.matrix(self.state_a[place.name].detach())
            b = place.matrix(place.others.apply(self.tables, self.state_b[place.name].detach()))
            similarity = (a @ b.T).reshape(place.sizes * 2).double().cpu().numpy()
            found[place.groups] = found[place.groups] + similarity if place.groups in found else similarity
        return [Term(groups, matrix) for groups, matrix in found.items()]

    def improve(self, family: Family, where: Sequence[Place]) -> tuple[float, float]:
        """Assign one family, the others held; what was gained, and the objective."""
        terms = self.terms(where)
        now = {group.name: self.tables[group.name] for group in family}
        found = solve(family, terms, start=now, pinned=self._pinned())
        before = objective(family, terms, now)
        if found.value <= before:
            return 0.0, before
        self.tables.update(found)
        return found.value - before, found.value

    def gains(self, family: Family, where: Sequence[Place]) -> dict[str, tuple[float, float]]:
        """Group -> its objective with the family at the identity and at the solution, the others at the solution."""
        terms = self.terms(where)
        identity = breakdown(family, terms, {group.name: group.identity() for group in family})
        solution = breakdown(family, terms, {group.name: self.tables[group.name] for group in family})
        return {group.name: (identity[group.name], solution[group.name]) for group in family}

    def _pinned(self) -> dict[str, int]:
        return {n: s for g in self.spec.groups for n, s in zip(g.depends_on, g.depends_sizes, strict=True)}
