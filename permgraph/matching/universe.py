"""Many models into one space: an element P_m for each, so that P_ab = P_a P_b⁻¹ and every cycle of maps closes.

The objective is Σ over pairs of <P_a x_a, P_b x_b>, of weights or of standardised activations. Moving all models by one
more element leaves it alone, so the first model is the reference and its P the identity. Each other model is matched to
the sum of those already placed, then to the sum of all others in turn until none gains: block coordinate ascent.
Source: C2M3 (arXiv 2405.17897), which optimises all P_m by Frank-Wolfe at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from permgraph.assignment.solve import Term, objective, solve
from permgraph.comparing.models import Pair, Progress
from permgraph.comparing.points import Point
from permgraph.matching.correlation import correlation_terms
from permgraph.matching.gains import Gain, correlation_gains, shares_of_bounds
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.search import match_weights
from permgraph.matching.weights.sites import families, unit_sources
from permgraph.symmetry.parts import Index
from permgraph.symmetry.permutations import PermutationGroup
from permgraph.symmetry.spec import PermutationSpec

Tables = dict[str, Index]
Place = Callable[[int, Sequence[int], Tables | None], Tables | None]
"""(model, the models to match it to, its tables so far) -> better tables, None if there are none."""

Correlations = Mapping[tuple[int, int], list[Term]]
"""(a, b) with a < b -> the correlations of a's units with b's."""

MOST_ROUNDS = 20
MEMORY = 2**31  # bytes of correlations held at once; above it the data is read several times


@dataclass(frozen=True)
class Placed:
    """Tables of every model, and the gains of each but the first, as of an alignment with the mean of the others."""

    tables: list[Tables]
    gains: list[dict[str, Gain]]


def settle(count: int, place: Place, report: Callable[[int], None] = lambda done: None) -> list[Tables]:
    """Place models 1, 2, … against those before them, then each against all others until none gains."""
    found: list[Tables] = []
    for model in range(1, count):
        tables = place(model, range(model), None)
        assert tables is not None
        found.append(tables)
        report(model)
    for _ in range(MOST_ROUNDS if count > 2 else 0):
        gained = False
        for model in range(1, count):
            better = place(model, [other for other in range(count) if other != model], found[model - 1])
            if better is not None:
                found[model - 1], gained = better, True
        if not gained:
            break
    return found


def universe_by_weights(
    spec: PermutationSpec,
    groups: Sequence[PermutationGroup],
    states: Sequence[Mapping[str, Tensor]],
    *,
    correlations: Correlations | None = None,
    mix: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Placed:
    """By weights: Frank-Wolfe to the mean of those placed, descent to the mean of the others.

    With a share `mix` of `correlations`, of every pair of models, in what is maximised. The weights are then divided by
    the mean bound of two models, |θ_a| |θ_b|, which no element changes, so that all models climb one objective.
    Memory: the models, a moved copy of each, one mean, and the correlations.
    """
    identity: Tables = {group.name: group.identity() for group in groups}
    everything = spec.identity()
    moved: list[dict[str, Tensor]] = [dict(states[0])]
    now_at: list[Tables] = [identity for _ in states]
    gains: list[dict[str, Gain]] = [{} for _ in states]
    most = mean_bound(spec, groups, states) if mix else None

    def place(model: int, others: Sequence[int], now: Tables | None) -> Tables | None:
        mean = _mean([moved[other] for other in others])
        terms = mean_terms(groups, model, others, correlations, now_at) if correlations and mix else []
        match = match_weights(
            spec, groups, mean, states[model], seed=seed, start=now, activations=terms, mix=mix, most=most
        )
        gains[model] = shares_of_bounds(match.gains) if mix else {k: Gain(*v) for k, v in match.gains.items()}
        if now is not None and all(np.array_equal(match.tables[name], now[name]) for name in now):
            return None
        moved[model:] = [spec.apply({**everything, **match.tables}, states[model]), *moved[model + 1 :]]
        now_at[model] = match.tables
        return match.tables

    def report(done: int) -> None:
        if progress is not None:
            progress("models matched", done, len(states) - 1)

    return Placed([identity, *settle(len(states), place, report)], gains)


def with_unseen(
    placed: Placed,
    spec: PermutationSpec,
    groups: Sequence[PermutationGroup],
    states: Sequence[Mapping[str, Tensor]],
    *,
    seed: int = 0,
) -> Placed:
    """The same, where groups that no activation carries are matched by weights, the others being where they are.

    DeBERTa's table of relative positions has such a width: it meets weights alone. Gains are then shares of the bound.
    """
    unseen = [group for group in groups if not any(group.name in gains for gains in placed.gains)]
    if not unseen:
        return placed
    moved = [
        spec.apply({**spec.identity(), **tables}, state) for tables, state in zip(placed.tables, states, strict=True)
    ]
    further = universe_by_weights(spec, unseen, moved, seed=seed)
    tables = [
        {name: table for name, table in spec.compose(more, here).items() if name in here}
        for here, more in zip(placed.tables, further.tables, strict=True)
    ]
    gains = [
        before | shares_of_bounds({name: (own.identity, own.solution, own.bound) for name, own in more.items()})
        for before, more in zip(placed.gains, further.gains, strict=True)
    ]
    return Placed(tables, gains)


def mean_bound(
    spec: PermutationSpec, groups: Sequence[PermutationGroup], states: Sequence[Mapping[str, Tensor]]
) -> float:
    """The mean over pairs of models of Σ |θ_a| |θ_b| over what the groups move."""
    pairs = [Pairing.of(spec, groups, states[a], states[b]) for a, b in combinations(range(len(states)), 2)]
    return sum(pairing.bound(site) for pairing in pairs for site in pairing.sites) / len(pairs)


def _mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the floating-point entries; of the others the first."""
    found = {}
    for name, first in states[0].items():
        if len(states) == 1 or not first.is_floating_point():
            found[name] = first.detach()
            continue
        total = first.detach().to(torch.promote_types(first.dtype, torch.float32), copy=True)
        for state in states[1:]:
            total += state[name].detach().to(total.device)
        found[name] = total / len(states)
    return found


def universe_by_correlation(
    groups: Sequence[PermutationGroup],
    points: Sequence[Point],
    pairs: Mapping[tuple[int, int], Pair],
    data: Iterable[object],
    *,
    pinned: Mapping[str, int],
    progress: Progress | None = None,
) -> Placed:
    """By correlation of activations.

    `pairs` has every (a, b) with a < b. Groups that share no point are settled apart, as many at once as MEMORY lets
    their correlations of all pairs be held, in float32; one pair's moments at a time. The data is read once a pair and
    part, so it must be readable more than once.
    """
    count = max(b for _, b in pairs) + 1
    placed = Placed([{} for _ in range(count)], [{} for _ in range(count)])
    parts = list(_parts(groups, points, len(pairs)))
    for number, (members, here) in enumerate(parts):
        report = None if progress is None else partial(progress, "pairs correlated")
        terms = correlated(pairs, here, data, report, number, len(parts))
        one = _settled(members, terms, count, pinned)
        for model in range(count):
            placed.tables[model] |= one.tables[model]
            placed.gains[model] |= one.gains[model]
    return placed


def correlated(
    pairs: Mapping[tuple[int, int], Pair],
    points: Sequence[Point],
    data: Iterable[object],
    report: Callable[[int, int], None] | None = None,
    part: int = 0,
    parts: int = 1,
) -> dict[tuple[int, int], list[Term]]:
    """The correlations of every pair at these points, in float32; `report` is told which of all pairs is done."""
    found = {}
    for done, (key, pair) in enumerate(pairs.items(), part * len(pairs) + 1):
        terms = correlation_terms(pair, list(points), data)
        found[key] = [Term(term.groups, term.matrix.astype(np.float32), term.weight) for term in terms]
        if report is not None:
            report(done, parts * len(pairs))
    return found


def _settled(groups: Sequence[PermutationGroup], terms: Correlations, count: int, pinned: Mapping[str, int]) -> Placed:
    found: list[Tables] = [{group.name: group.identity() for group in groups} for _ in range(count)]
    gains: list[dict[str, Gain]] = [{} for _ in range(count)]

    def place(model: int, others: Sequence[int], now: Tables | None) -> Tables | None:
        means = mean_terms(groups, model, others, terms, found)
        tables = solve(groups, means, start=now, pinned=pinned)
        if now is not None:
            before = objective(groups, means, now)
            if tables.value <= before + 1e-9 * abs(before):
                gains[model] = correlation_gains(groups, means, now)
                return None
        gains[model] = correlation_gains(groups, means, tables)
        found[model] = dict(tables)
        return found[model]

    return Placed([found[0], *settle(count, place)], gains)


def mean_terms(
    groups: Sequence[PermutationGroup],
    model: int,
    others: Sequence[int],
    terms: Correlations,
    found: Sequence[Tables],
) -> list[Term]:
    """s[u, j]: the mean over the other models of the correlation of the unit they have at u with unit j of `model`."""
    depends = {group.name: group.depends_on for group in groups}
    sums: dict[tuple[str, ...], np.ndarray] = {}
    weights: dict[tuple[str, ...], float] = {}
    for other in others:
        for term in terms[min(other, model), max(other, model)]:
            sizes = term.matrix.shape[: len(term.groups)]
            matrix = term.matrix.reshape(np.prod(sizes, dtype=int), -1)
            rows = unit_sources(term.groups, sizes, depends, found[other])
            moved = (matrix if other < model else matrix.T)[rows].reshape(term.matrix.shape)
            if term.groups in sums:
                sums[term.groups] += moved
            else:
                sums[term.groups] = moved.astype(np.float64)
            weights[term.groups] = weights.get(term.groups, 0.0) + term.weight
    return [Term(names, matrix / len(others), weights[names] / len(others)) for names, matrix in sums.items()]


def _parts(
    groups: Sequence[PermutationGroup], points: Sequence[Point], pairs: int
) -> Iterator[tuple[list[PermutationGroup], list[Point]]]:
    """Groups with their points, in portions whose correlations fit into MEMORY; what shares a point stays together."""
    clusters: list[set[str]] = [{group.name for group in family} for family in families(groups)]
    for point in points:
        met = [cluster for cluster in clusters if not cluster.isdisjoint(point.groups)]
        first = met[0] if met else set()
        for other in met[1:]:
            first |= other
            clusters.remove(other)
    batch: tuple[list[PermutationGroup], list[Point]] = ([], [])
    for cluster in clusters:
        members = [group for group in groups if group.name in cluster]
        here = [point for point in points if not cluster.isdisjoint(point.groups)]
        if batch[1] and _bytes([*batch[1], *here], pairs) > MEMORY:
            yield batch
            batch = ([], [])
        batch = ([*batch[0], *members], [*batch[1], *here])
    yield batch


def _bytes(points: Sequence[Point], pairs: int) -> int:
    return sum(4 * int(np.prod(point.sizes, dtype=int)) ** 2 for point in points) * pairs
