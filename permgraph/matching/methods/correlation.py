"""By correlation: units go to the units of the other models whose activations they correlate with most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from permgraph.assignment.solve import objective, solve
from permgraph.comparing.frames import Point
from permgraph.comparing.moments import CHUNK
from permgraph.matching.correlation import WITHOUT, Correlations, Within, correlations
from permgraph.matching.gains import correlation_gains
from permgraph.matching.groups import pinned_sizes
from permgraph.matching.kinds.match import match_kinds
from permgraph.matching.match import Match, Task, matcher, with_partners
from permgraph.matching.universe import mean_terms, settle, with_unseen
from permgraph.matching.weights.sites import families
from permgraph.symmetry.parts import Index
from permgraph.symmetry.permutations import PermutationGroup

Portion = tuple[list[PermutationGroup], list[Point]]
FRAMES, SOLVED = 2 * 4 * (CHUNK + 1), 8 + 12
MEMORY = 2**31  # bytes of correlations held at once where there are more than two models; above it data is read again


@matcher("correlation", reference="arXiv 1511.07543, arXiv 2506.11403", needs_data=True)
def by_correlation(
    task: Task, *, point_weights: Mapping[str, Sequence[float]] | None = None, within: Within = WITHOUT
) -> list[Match]:
    """Maximise the sum of signed correlations of matched units, at each point where a group is contracted.

    Groups that share no point are solved separately, as many at a time as their correlations fit into the limit of
    `within`, or for more than two models those of all pairs into MEMORY; the data is read once for each pair and part.
    Groups that occur in no activation are matched by weights afterwards.
    """
    points = task.points(point_weights)
    if task.spec.kinds != "permutation":
        return match_kinds(task, points)
    parts = portions(task.groups, points, len(task.models), within.room)
    found = [Match({}) for _ in task.states]
    for number, (members, here) in enumerate(parts):
        terms = correlations(
            task.models, here, task.data, progress=task.progress, part=number, parts=len(parts), in_step=within.in_step
        )
        settled = with_partners(_settled(task, members, terms), members, terms)
        found = [_joined(before, more) for before, more in zip(found, settled, strict=True)]
    ordered = [replace(one, element={g.name: one.element[g.name] for g in task.groups}) for one in found]
    return with_unseen(ordered, task)


def _settled(task: Task, groups: Sequence[PermutationGroup], terms: Correlations) -> list[Match]:
    first = Match({group.name: group.identity() for group in groups})
    pinned, count = pinned_sizes(task.spec), len(task.models)
    tables: list[Mapping[str, Index]] = [first.element for _ in range(count)]

    def place(model: int, others: Sequence[int], now: Match | None) -> Match | None:
        means = mean_terms(groups, model, others, terms, tables)
        solution = solve(groups, means, start=None if now is None else now.element, pinned=pinned, shared=True)
        if now is not None:
            before = objective(groups, means, now.element)
            if solution.value <= before + 1e-9 * abs(before):
                gains[model] = correlation_gains(groups, means, now.element)
                return None
        gains[model] = correlation_gains(groups, means, solution)
        tables[model] = dict(solution)
        exact = tuple(name for name in solution.exact if name in gains[model]) if count == 2 else ()
        return Match(tables[model], exact=exact)

    gains = [correlation_gains((), (), {}) for _ in range(count)]
    return [replace(one, gains=own) for one, own in zip(settle(first, count, place), gains, strict=True)]


def _joined(one: Match, other: Match) -> Match:
    """Two matches of one model, by different groups, as one."""
    return Match(
        {**one.element, **other.element},
        {**one.gains, **other.gains},
        one.exact + other.exact,
        partners=one.partners + other.partners,
    )


def portions(
    groups: Sequence[PermutationGroup], points: Sequence[Point], models: int = 2, room: int | None = None
) -> list[Portion]:
    """Groups with their points, in portions that fit into `room`, or for more than two models into MEMORY.

    Groups that share a point stay together. Two models without a limit are one portion.
    """
    if models > 2:
        room = MEMORY if room is None else min(MEMORY, room)
    if room is None:
        return [(list(groups), list(points))]
    found: list[Portion] = []
    for members, here in _clusters(groups, points):
        if found and held([*found[-1][1], *here], models) <= room:
            found[-1] = ([*found[-1][0], *members], [*found[-1][1], *here])
        else:
            found.append((members, here))
    return found


def _clusters(groups: Sequence[PermutationGroup], points: Sequence[Point]) -> Iterator[Portion]:
    """Groups in sets that share no point, with their points."""
    clusters: list[set[str]] = [{group.name for group in family} for family in families(groups)]
    for point in points:
        met = [cluster for cluster in clusters if not cluster.isdisjoint(point.groups)]
        first = met[0] if met else set()
        for other in met[1:]:
            first |= other
            clusters.remove(other)
    for cluster in clusters:
        members = [group for group in groups if group.name in cluster]
        yield members, [point for point in points if not cluster.isdisjoint(point.groups)]


def held(points: Sequence[Point], models: int = 2) -> int:
    """Bytes for comparing these points: correlations in float32 of every pair of models, or the sums of two models.

    The sums are in float64, with a buffer of frames; added are the sum over points and the solver's memory.
    """
    units = [prod(point.sizes) for point in points]
    if models > 2:
        return sum(4 * n**2 for n in units) * (models * (models - 1) // 2)
    return sum(8 * n**2 + FRAMES * n for n in units) + SOLVED * max(units, default=0) ** 2
