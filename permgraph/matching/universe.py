"""Many models into one space: an element P_m for each, so that P_ab = P_a P_b⁻¹ and every cycle of maps closes.

The objective is Σ over pairs of <P_a x_a, P_b x_b>, of weights or of standardised activations. Moving all models by one
more element leaves it alone, so the first model is the reference and its P the identity. Each other model is matched to
the sum of those already placed, then to the sum of all others in turn until none gains: block coordinate ascent.
Source: C2M3 (arXiv 2405.17897), which optimises all P_m by Frank-Wolfe at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from permgraph.matching.assignment import Term, objective, solve
from permgraph.matching.correlation import Pair, Progress, correlation_terms
from permgraph.matching.places import families, unit_sources
from permgraph.matching.points import Point
from permgraph.matching.weights import match_weights
from permgraph.symmetry.layout import Index
from permgraph.symmetry.permutations import PermutationGroup
from permgraph.symmetry.spec import PermutationSpec

Tables = dict[str, Index]
Place = Callable[[int, Sequence[int], Tables | None], Tables | None]
"""(model, the models to match it to, its tables so far) -> better tables, None if there are none."""

MOST_ROUNDS = 20
MEMORY = 2**31  # bytes of correlations held at once; above it the data is read several times


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
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Tables]:
    """Tables for every model, by weights: Frank-Wolfe to the mean of those placed, descent to the mean of the others.

    Memory: the models, a moved copy of each, and one mean.
    """
    identity: Tables = {group.name: group.identity() for group in groups}
    everything = spec.identity()
    moved: list[dict[str, Tensor]] = [dict(states[0])]

    def place(model: int, others: Sequence[int], now: Tables | None) -> Tables | None:
        mean = _mean([moved[other] for other in others])
        tables = match_weights(spec, groups, mean, states[model], seed=seed, start=now).tables
        if now is not None and all(np.array_equal(tables[name], now[name]) for name in now):
            return None
        moved[model:] = [spec.apply({**everything, **tables}, states[model]), *moved[model + 1 :]]
        return tables

    def report(done: int) -> None:
        if progress is not None:
            progress("models matched", done, len(states) - 1)

    return [identity, *settle(len(states), place, report)]


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
) -> list[Tables]:
    """Tables for every model, by correlation of activations.

    `pairs` has every (a, b) with a < b. Groups that share no point are settled apart, as many at once as MEMORY lets
    their correlations of all pairs be held, in float32; one pair's moments at a time. The data is read once a pair and
    part, so it must be readable more than once.
    """
    count = max(b for _, b in pairs) + 1
    tables: list[Tables] = [{} for _ in range(count)]
    parts = list(_parts(groups, points, len(pairs)))
    for number, (members, here) in enumerate(parts):
        terms = {}
        for done, (key, pair) in enumerate(pairs.items()):
            terms[key] = [Term(t.groups, t.matrix.astype(np.float32)) for t in correlation_terms(pair, here, data)]
            if progress is not None:
                progress("pairs correlated", number * len(pairs) + done + 1, len(parts) * len(pairs))
        for model, found in enumerate(_settled(members, terms, count, pinned)):
            tables[model] |= found
    return tables


def _settled(
    groups: Sequence[PermutationGroup],
    terms: Mapping[tuple[int, int], list[Term]],
    count: int,
    pinned: Mapping[str, int],
) -> list[Tables]:
    found: list[Tables] = [{group.name: group.identity() for group in groups} for _ in range(count)]
    depends = {group.name: group.depends_on for group in groups}

    def place(model: int, others: Sequence[int], now: Tables | None) -> Tables | None:
        sums = _sums(model, others, terms, depends, found)
        tables = solve(groups, sums, start=now, pinned=pinned)
        if now is not None:
            before = objective(groups, sums, now)
            if tables.value <= before + 1e-9 * abs(before):
                return None
        found[model] = dict(tables)
        return found[model]

    return [found[0], *settle(count, place)]


def _sums(
    model: int,
    others: Sequence[int],
    terms: Mapping[tuple[int, int], list[Term]],
    depends: Mapping[str, tuple[str, ...]],
    found: Sequence[Tables],
) -> list[Term]:
    """s[u, j] = Σ over the other models of the correlation of the unit they have at u with unit j of `model`."""
    sums: dict[tuple[str, ...], Term] = {}
    for other in others:
        for term in terms[min(other, model), max(other, model)]:
            sizes = term.matrix.shape[: len(term.groups)]
            matrix = term.matrix.reshape(np.prod(sizes, dtype=int), -1)
            rows = unit_sources(term.groups, sizes, depends, found[other])
            moved = (matrix if other < model else matrix.T)[rows].reshape(term.matrix.shape)
            if term.groups in sums:
                sums[term.groups].matrix[...] += moved
            else:
                sums[term.groups] = Term(term.groups, moved.astype(np.float64))
    return list(sums.values())


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
