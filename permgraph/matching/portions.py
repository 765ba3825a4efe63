"""Groups with the points where they are compared, in portions whose moments fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from permgraph.comparing.frames import Point
from permgraph.comparing.moments import CHUNK
from permgraph.matching.weights.sites import families
from permgraph.symmetry.elements.permutations import PermutationGroup

Portion = tuple[list[PermutationGroup], list[Point]]
FRAMES, SOLVED, SOLVED_IN_KINDS = 2 * 4 * (CHUNK + 1), 8 + 12, 6 * 8
MEMORY = 2**31  # bytes of correlations held at once where there are more than two models; above it data is read again


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
        if found and held([*found[-1][0], *members], [*found[-1][1], *here], models) <= room:
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


def held(groups: Sequence[PermutationGroup], points: Sequence[Point], models: int = 2) -> int:
    """Bytes for comparing these points: correlations in float32 of every pair of models, or the sums of two models.

    The sums are in float64, with a buffer of frames; added are the sum over points and the solver's memory.
    """
    units = [prod(point.sizes) for point in points]
    if models > 2:
        return sum(4 * n**2 for n in units) * (models * (models - 1) // 2)
    solved = SOLVED if all(group.kind == "permutation" for group in groups) else SOLVED_IN_KINDS
    return sum(8 * n**2 + FRAMES * n for n in units) + solved * max(units, default=0) ** 2
