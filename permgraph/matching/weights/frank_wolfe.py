"""Frank-Wolfe over doubly stochastic matrices, with an exact line search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from permgraph.matching.weights.doubly_stochastic import inner_vertex
from permgraph.matching.weights.effort import EFFORT, Effort
from permgraph.matching.weights.polynomial import Flat, Soft
from permgraph.matching.weights.relaxation import Relaxation
from permgraph.symmetry.elements.parts import Index


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Where Frank-Wolfe stopped: F, the gap max_S <F'(X), S - X>, the steps, and the element it is rounded to.

    `gap` is None if an element so near the bound was reached that its gradient was not computed.
    """

    tables: dict[str, Index]
    value: float
    gap: float | None
    steps: int


def frank_wolfe(
    problem: Relaxation,
    start: Soft,
    progress: Callable[[int, int], None] | None = None,
    *,
    effort: Effort = EFFORT,
    enough: float = EFFORT.stationary,
    worthwhile: float = 0.0,
) -> Relaxed:
    """X <- X + γ (S - X), S = argmax <F'(X), S> over all families at once, γ = argmax of F on the segment.

    F is a polynomial in γ, so F and F' at 0, F at 1 and, where three actions meet on a site, at points between
    determine it. F is not concave: the gap is 0 at stationary points and bounds nothing. It ends at a gap below
    `enough` · |F|, or after a step that gained less than `worthwhile` · |F|. The result is rounded to the better of the
    last S and argmax <X, S>. Jaggi (ICML 2013), algorithm 1; for matching, C2M3 (arXiv 2405.17897).
    """
    soft, gap, value, step = start, None, 0.0, 0
    best: dict[str, Index] = {}
    for step in range(1, effort.steps + 1):
        value, slope = problem.gradient(soft)
        found = problem.best(slope)
        best, target = dict(found), problem.flat(found)
        gap = sum(inner_vertex(slope[axes], target[axes]) - soft[axes].inner(slope[axes]) for axes in slope)
        if gap <= enough * abs(value):
            break
        size, reached = _step(problem, soft, target, value, gap)
        soft = problem.toward(soft, target, size)
        if progress is not None:
            progress(step, effort.steps)
        if size == 1 and reached >= (1 - effort.reached) * problem.bound:
            return Relaxed(best, reached, None, step)
        if reached - value < worthwhile * abs(value):
            break
    rounded = dict(problem.best({axes: mixture.dense for axes, mixture in soft.items()}))
    tables = max((rounded, best), key=lambda tables: problem.at(problem.flat(tables)))
    return Relaxed(tables, value, gap, step)


def _step(problem: Relaxation, soft: Soft, target: Flat, value: float, slope: float) -> tuple[float, float]:
    """argmax and max over γ in (0, 1] of F(X + γ (S - X)), from F, F' at 0 and F at degree - 1 more points."""
    points = np.linspace(0, 1, problem.degree)[1:] if problem.degree > 1 else np.array([])
    values = [problem.at(target) if p == 1 else problem.value(problem.toward(soft, target, p)) for p in points]
    rest = (np.array(values) - value - slope * points) / points**2
    curve = np.polynomial.Polynomial([value, slope, *np.linalg.solve(np.vander(points, increasing=True), rest)])
    roots = np.atleast_1d(curve.deriv().roots()).astype(complex)
    inside = [float(root.real) for root in roots if abs(root.imag) < 1e-9]
    best = max([1.0, *(root for root in inside if 0 < root < 1)], key=lambda point: float(curve(point)))
    return best, float(curve(best))
