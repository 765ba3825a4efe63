"""Correlations of the units of two models, or of every two of several, on the same data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import inf, prod
from typing import Any

import numpy as np

from permgraph import ranks
from permgraph.assignment.problem import Term
from permgraph.checkpoints.lazy_state import like
from permgraph.comparing.batches import Batch, Batches, Progress
from permgraph.comparing.frames import Point
from permgraph.comparing.in_step import InStep
from permgraph.comparing.lockstep import Run, lockstep
from permgraph.comparing.models import Models
from permgraph.comparing.moments import CrossMoments, add_up
from permgraph.comparing.padding import padding_masks
from permgraph.errors import CalibrationError
from permgraph.tracing.run import Runner, bind


@dataclass(frozen=True)
class Within:
    """How much is held at once while activations are compared; it changes only time and memory.

    Attributes:
        room: bytes of the moments of two models; the data is read again for those that do not fit. None: no bound.
        in_step: batches that go through the models together, layer by layer, each weight being read once for all.

    """

    room: int | None = None
    in_step: int = 1


WITHOUT = Within()
Correlations = Mapping[tuple[int, int], list[Term]]
"""(a, b) with a < b -> the correlations of a's units with b's."""


def correlation_terms(
    pair: Models,
    points: Sequence[Point],
    data: Iterable[Any],
    *,
    once: bool = False,
    progress: Progress | None = None,
    in_step: int = 1,
) -> list[Term]:
    """One term for each point: the signed Pearson correlation of every unit of A with every unit of B, over all frames.

    Both models see the same batches in lockstep, and each activation is reduced to sums as soon as both have it, so
    that only one set of moments is kept. Several points of one group add up, each times its weight; a point that no
    input reaches (a class token before the first layer) is left out if the group has others.
    `once`: the data is not read again, so batches of a generator are not kept.

    Source: Li et al. (arXiv 1511.07543); arXiv 2506.11403 with correlations signed.
    Raises CalibrationError for no batches, values that are not finite, constant activations, too few frames, or more
    correlations than the machine has memory for.
    """
    moments = moments_of(pair, points, Batches.of(data), once=once, progress=progress, in_step=in_step)
    return list(terms_of(points, moments))


def moments_of(
    pair: Models,
    points: Sequence[Point],
    batches: Batches,
    *,
    once: bool = False,
    progress: Progress | None = None,
    in_step: int = 1,
) -> dict[int, CrossMoments]:
    """The moments of both models' activations at each point, over all batches and all processes.

    Each process reads its share of the batches, and the sums of all processes are added. Batches are added in their
    order, however many run `in_step`. Products run where the models are.
    """
    pair.require_one_device()
    require_memory(points)
    device = next((tensor.device for tensor in like(pair.states[0]).values() if not tensor.is_meta), "cpu")
    moments = {k: CrossMoments(prod(p.sizes), device=device, where=p.node) for k, p in enumerate(points)}
    mine = batches.dealt(once=once)
    total = None if batches.total is None else -(-batches.total // ranks.count())
    count = 0
    with ranks.together():
        while chunk := list(islice(mine, in_step)):
            observe(pair, chunk, points, moments)
            count += len(chunk)
            if progress is not None:
                progress("calibration", count, total)
    add_up(list(moments.values()))
    return moments


def observe(
    pair: Models, batches: Sequence[Batch], points: Sequence[Point], moments: Mapping[int, CrossMoments]
) -> None:
    """Run both models on batches in step, up to the last of `points`, and add their activations there to `moments`."""
    here: dict[str, list[int]] = {}
    for k, point in enumerate(points):
        here.setdefault(point.node, []).append(k)
    runs, weights = list[Run](), [InStep(state, len(batches)) for state in pair.states]
    for batch in batches:
        program = pair.program(batch)
        inputs = bind(program, *batch)
        masks = padding_masks(program, inputs)
        runs += [Run(Runner(program, own, by_rows=own.by_rows(program)), inputs, masks) for own in weights]
    for node, stops in islice(lockstep(runs, here), len(here)):
        for k in here[node]:
            for a, b in zip(stops[::2], stops[1::2], strict=True):
                one, other = a.at(points[k].inside), b.at(points[k].inside)
                point = points[k].resized(one.shape)
                moments[k].update(point.frames(one), point.frames(other), point.kept(a.mask))


def correlations(
    models: Models,
    points: Sequence[Point],
    batches: Batches,
    *,
    progress: Progress | None = None,
    part: int = 0,
    parts: int = 1,
    in_step: int = 1,
) -> dict[tuple[int, int], list[Term]]:
    """The correlations of every pair of models at these points.

    For two models in float64, by one reading of the data. For more models in float32, since all pairs are held at once,
    by one reading for each pair. This is number `part` of `parts` calls, for progress; with several the data is read
    again.
    """
    if len(models) == 2:
        once = parts == 1
        return {(0, 1): correlation_terms(models, points, batches, once=once, progress=progress, in_step=in_step)}
    found, pairs = {}, list(combinations(range(len(models)), 2))
    for done, (a, b) in enumerate(pairs, part * len(pairs) + 1):
        terms = correlation_terms(models.pair(a, b), points, batches, in_step=in_step)
        found[a, b] = [Term(term.groups, term.matrix.astype(np.float32), term.weight) for term in terms]
        if progress is not None:
            progress("pairs correlated", done, parts * len(pairs))
    return found


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
    """Bytes of memory of this machine; infinite if the system does not tell."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else inf


def chosen_points(points: Sequence[Point], moments: Mapping[int, CrossMoments]) -> list[int]:
    """The points that count, by number: see `terms_of`."""
    telling = [k for k in range(len(points)) if moments[k].tells]
    told = {name for k in telling if not points[k].reserve for name in points[k].groups}
    chosen = [k for k in telling if not (points[k].reserve and told.issuperset(points[k].groups))]
    told.update(*(points[k].groups for k in chosen))
    return [k for k, p in enumerate(points) if k in chosen or not (p.reserve or told.issuperset(p.groups))]


def terms_of(points: Sequence[Point], moments: dict[int, CrossMoments]) -> Iterator[Term]:
    """A term for each point. A point with too few frames or only constant activations is left out if each of its groups
    has another point. Points in reserve are used for groups that have no other point.
    """
    chosen = chosen_points(points, moments)
    for k, point in enumerate(points):
        moment = moments.pop(k)
        if k not in chosen:
            continue
        moment.require_signal()
        matrix = moment.correlation(last=True)
        moment.require_distinct(matrix)
        matrix = matrix.reshape(point.sizes * 2)
        if point.weight != 1:
            matrix *= point.weight
        yield Term(point.groups, matrix, point.weight)
