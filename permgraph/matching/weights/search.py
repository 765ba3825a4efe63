"""Weight matching: maximise F(π) = Σ <θ_A, πθ_B> over all groups at once, without data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from permgraph.assignment.problem import Term
from permgraph.matching.weights.coordinate_descent import Descended, Descent
from permgraph.matching.weights.effort import EFFORT, Effort
from permgraph.matching.weights.frank_wolfe import Relaxed, frank_wolfe
from permgraph.matching.weights.in_turn import in_turn
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.relaxation import relax
from permgraph.matching.weights.sites import Family, units_of
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup, sample
from permgraph.symmetry.specification.spec import PermutationSpec

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class WeightSearch:
    """How a search by weights ended; what tells a local optimum from a failure.

    Attributes:
        objective: Σ <θ_A, πθ_B> over the parameters that the groups move, at the solution.
        identity: the same where nothing moves.
        bound: Σ |θ_A| |θ_B| over these: no element reaches more, and one that does is a proven maximum.
        gap: max over vertices S of <F'(X), S - X> where Frank-Wolfe stopped, near 0 at a stationary point; None where
            it met an element within 0.1 % of the bound, and left the rest to coordinate descent.
        steps: of Frank-Wolfe.
        sweeps: how many times each family was assigned in coordinate descent, on average.
        fixed_point: whether no family can gain with the others held; above 2²⁴ moved elements, whether none gains more
            than 1e-4 of its own objective. Outer units of a family of more than 2¹⁴ units are matched by an estimate,
            and may still gain.
        starts: how many starts were tried.

    """

    objective: float
    identity: float
    bound: float
    gap: float | None
    steps: int
    sweeps: float
    fixed_point: bool
    starts: int

    @property
    def proven(self) -> bool:
        """Whether the bound is reached, up to rounding: no element is better."""
        return self.objective >= (1 - EFFORT.optimal) * self.bound

    def __str__(self) -> str:
        share = f"{self.objective / self.bound:.1%} of its bound" if self.bound else "0"
        end = "a proven maximum" if self.proven else "a fixed point" if self.fixed_point else "not a fixed point yet"
        gap = "" if self.gap is None else f", gap {self.gap:.1e}"
        return f"objective {share}, {end} ({self.steps} steps of Frank-Wolfe{gap}, {self.sweeps:.1f} sweeps)"


@dataclass(frozen=True)
class WeightMatch:
    """Tables of the groups that may move, (identity, solution, bound) by group, and how the search ended.

    A group's figures are sums over the parameters it moves: with its family at the identity and the others at the
    solution, at the solution, and Σ |θ_A| |θ_B|.
    """

    tables: dict[str, Index]
    gains: dict[str, tuple[float, float, float]]
    search: WeightSearch


def match_weights(
    spec: PermutationSpec,
    groups: Sequence[PermutationGroup],
    state_a: Mapping[str, Tensor],
    state_b: Mapping[str, Tensor],
    *,
    seed: int = 0,
    start: Mapping[str, Index] | None = None,
    activations: Sequence[Term] = (),
    mix: float = 0.0,
    most: float | None = None,
    effort: Effort = EFFORT,
    progress: Progress | None = None,
) -> WeightMatch:
    """Frank-Wolfe from the barycentre over all groups jointly, rounded, then polished by coordinate descent.

    Families above 1024 units (feed-forward layers of large models) are averaged while the others are found, and are
    assigned first in the descent. Small models get another start, drawn from `seed`, unless the bound is reached.
    The identity competes: where it is better than what was found, descent starts from there. With `start` there is no
    Frank-Wolfe: descent alone, from these tables. A share `mix` of the objective, below 1, comes from `activations`,
    the terms of correlation matching; all figures then include it. The weights' part is divided by `most` before
    the two are added, by its bound where nothing is given.

    Sources: Git Re-Basin (arXiv 2209.04836), C2M3 (arXiv 2405.17897).
    """
    pairing = Pairing.of(spec, groups, state_a, state_b, effort)
    if mix:
        pairing = pairing.with_activations(activations, mix, most)
    identity = {group.name: group.identity() for group in groups}
    bounds = [(site.names, pairing.bound(site)) for site in pairing.sites]
    bounds += [(frozenset(prior.axes), prior.bound) for prior in pairing.priors]
    most = sum(bound for _, bound in bounds)
    search = _Search(pairing, Descent.of(pairing), identity, most, seed, progress)
    unmoved = pairing.unmoved()
    attempts = (
        search.attempts()
        if start is None
        else [search.polish({name: start.get(name, table) for name, table in identity.items()})]
    )
    if unmoved > max(attempt.objective for attempt in attempts):
        attempts.append(search.polish(identity))
    best = max(attempts, key=lambda attempt: attempt.objective)
    gains = {
        group.name: (*best.end.gains[group.name], sum(bound for names, bound in bounds if group.name in names))
        for group in groups
    }
    figures = (best.objective, unmoved, most, best.gap, best.steps, best.end.sweeps, best.end.fixed_point)
    tables = {group.name: best.end.tables[group.name] for group in groups}
    return WeightMatch(tables, gains, WeightSearch(*figures, len(attempts)))


@dataclass(frozen=True)
class _Attempt:
    objective: float
    end: Descended
    gap: float | None
    steps: int


@dataclass(frozen=True)
class _Search:
    pairing: Pairing
    descent: Descent
    identity: Mapping[str, Index]
    bound: float
    seed: int
    progress: Progress | None

    def attempts(self) -> list[_Attempt]:
        """From the barycentre, then from points near it, until the bound is reached."""
        if self.pairing.effort.in_turn:
            return [self._in_turn()]
        effort = self.pairing.effort
        late = _late(self.descent.families, effort.averaged_above, self.pairing.wide)
        found: list[_Attempt] = []
        for number in range(effort.starts if self.pairing.dtype == torch.float64 else 1):
            relaxed = self._relaxed(late, number)
            found.append(self.polish(dict(self.identity) | relaxed.tables, late, relaxed))
            if found[-1].objective >= (1 - effort.optimal) * self.bound:
                break
        return found

    def _in_turn(self) -> _Attempt:
        start = in_turn(self.descent, self.identity, self._report("weights, family by family"))
        report = self._report("weights, descent")
        end = self.descent.run(start.tables, progress=report, settled=start.settled, known=start.gains)
        return _Attempt(self.pairing.value(end.tables), end, None, 0)

    def _relaxed(self, late: Sequence[str], number: int) -> Relaxed:
        """Frank-Wolfe with the groups in `late` averaged; its matrices are gone before descent makes its own."""
        effort = self.pairing.effort
        core = [group.name for group in self.pairing.groups if group.name not in late]
        problem = relax(self.pairing, core, self.identity, averaged=late)
        start = problem.barycentre()
        if number:
            start = problem.toward(start, problem.flat(sample(problem.groups, self.seed + number)), effort.near)
        enough = effort.stationary if self.pairing.dtype == torch.float64 else effort.stationary_if_large
        worthwhile = effort.worthwhile if self.pairing.size > effort.hurried_above else 0.0
        report = self._report("weights, Frank-Wolfe")
        return frank_wolfe(problem, start, report, effort=effort, enough=enough, worthwhile=worthwhile)

    def polish(self, tables: Mapping[str, Index], late: Sequence[str] = (), relaxed: Relaxed | None = None) -> _Attempt:
        """Coordinate descent from `tables`."""
        end = self.descent.run(tables, late, self._report("weights, descent"))
        gap, steps = (None, 0) if relaxed is None else (relaxed.gap, relaxed.steps)
        return _Attempt(self.pairing.value(end.tables), end, gap, steps)

    def _report(self, stage: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(stage, done, total)


def _late(families: Sequence[Family], most: int, wide: Collection[str]) -> tuple[str, ...]:
    """The groups of families of more than `most` units, or if all families are, those that are wide."""
    late = [family for family in families if units_of(family) > most]
    if len(late) == len(families):
        late = [family for family in families if family[0].name in wide]
    return tuple(group.name for family in late for group in family)
