"""Correlation matching: units of B are sent to the units of A whose activations they correlate with most."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from math import inf, prod
from typing import Any

from permgraph.assignment.solve import Term
from permgraph.comparing.models import Pair, Progress, as_batch, require_finite_input
from permgraph.comparing.moments import CrossMoments
from permgraph.comparing.points import Point
from permgraph.errors import CalibrationError


def correlation_terms(
    pair: Pair, points: list[Point], batches: Iterable[Any], total: int | None = None, progress: Progress | None = None
) -> list[Term]:
    """One term a point: the signed Pearson correlation of every unit of A with every unit of B, over all frames.

    Both models see the same batches in lockstep, and each activation is reduced to sums as soon as both have it, so
    that nothing is kept but one set of moments. Several points of one group add up, each times its
    weight; one that no input reaches (a class token before the first layer) says nothing where others do.

    Source: Li et al. (arXiv 1511.07543); arXiv 2506.11403 with correlations signed.
    Raises CalibrationError for no batches, values that are not finite, constant activations, too few frames, or more
    correlations than the machine has memory for.
    """
    pair.require_one_device()
    require_memory(points)
    moments = {k: CrossMoments(prod(p.sizes), where=p.node) for k, p in enumerate(points)}
    count = 0
    for count, item in enumerate(batches, 1):
        args, kwargs = as_batch(item)
        require_finite_input(args, kwargs, count)
        pair.observe(args, kwargs, points, moments)
        if progress is not None:
            progress("calibration", count, total)
    if not count:
        raise CalibrationError("the calibration data is empty: give at least one batch")
    return list(terms_of(points, moments))


def require_memory(points: Sequence[Point]) -> None:
    """Raises CalibrationError where the float64 [n, n] of all points would not fit into this machine's memory."""
    needed, have = sum(8 * prod(point.sizes) ** 2 for point in points), machine_memory()
    if needed > have:
        largest = max(points, key=lambda point: prod(point.sizes))
        raise CalibrationError(
            f"the correlations at {len(points)} points take {needed / 2**30:.1f} GiB, and this machine has "
            f"{have / 2**30:.1f}; the largest is {largest.node} with {prod(largest.sizes)} units: match fewer groups "
            'at a time (`groups`), or use method "weights"'
        )


def machine_memory() -> float:
    """Bytes of memory of this machine; infinite where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else inf


def terms_of(points: Sequence[Point], moments: dict[int, CrossMoments]) -> Iterator[Term]:
    """A term a point; one with too few frames, or where all is constant, is left out if each of its groups is told
    apart at another. What is in reserve is for groups that no other point tells apart.
    """
    telling = [k for k in range(len(points)) if moments[k].tells]
    told = {name for k in telling if not points[k].reserve for name in points[k].groups}
    chosen = [k for k in telling if not (points[k].reserve and told.issuperset(points[k].groups))]
    told.update(*(points[k].groups for k in chosen))
    for k, point in enumerate(points):
        moment = moments.pop(k)
        if k not in chosen and (point.reserve or told.issuperset(point.groups)):
            continue
        moment.require_signal()
        matrix = moment.correlation(last=True).reshape(point.sizes * 2)
        if point.weight != 1:
            matrix *= point.weight
        yield Term(point.groups, matrix, point.weight)
