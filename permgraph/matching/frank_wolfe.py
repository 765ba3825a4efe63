"""Frank-Wolfe over doubly stochastic matrices, with an exact line search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from permgraph.matching.objective import Relaxation, Soft

MOST_STEPS = 100
ENOUGH = 1e-6  # a gap below this share of |F| is a stationary point


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Where Frank-Wolfe stopped: the matrices, F there, the gap max_S <F'(X), S - X>, and the steps taken."""

    soft: Soft
    value: float
    gap: float
    steps: int

    @property
    def stationary(self) -> bool:
        """Whether no vertex is better to first order."""
        return self.gap <= ENOUGH * max(abs(self.value), 1e-300)


def frank_wolfe(
    problem: Relaxation, start: Soft, *, most: int = MOST_STEPS, progress: Callable[[int], None] | None = None
) -> Relaxed:
    """X <- X + γ (S - X), S = argmax <F'(X), S> over all families at once, γ = argmax of F on the segment.

    F is a polynomial in γ, so F and F' at 0, F at 1 and, where three actions meet on a site, at points between
    determine it. F is not concave: the gap is 0 at stationary points and bounds nothing. Jaggi (ICML 2013),
    algorithm 1; for matching, C2M3 (arXiv 2405.17897).
    """
    soft, step, gap = start, 0, float("inf")
    for step in range(1, most + 1):
        value, slope = problem.gradient(soft)
        target = problem.vertex(problem.best_vertex(slope))
        gap = sum(float((slope[axes] * (target[axes] - soft[axes])).double().sum()) for axes in slope)
        if gap <= ENOUGH * max(abs(value), 1e-300):
            return Relaxed(soft, value, gap, step)
        size = _step(problem, soft, target, value, gap)
        soft = {axes: soft[axes].lerp(target[axes], size) for axes in soft}
        if progress is not None:
            progress(step)
    return Relaxed(soft, problem.value(soft), gap, step)


def _step(problem: Relaxation, soft: Soft, target: Soft, value: float, slope: float) -> float:
    """argmax over γ in [0, 1] of F(X + γ (S - X)), from F, F' at 0 and F at degree - 1 more points."""
    degree = problem.degree
    if degree == 1:
        return 1.0
    points = np.linspace(0, 1, degree)[1:]
    values = [problem.value({axes: soft[axes].lerp(target[axes], float(p)) for axes in soft}) for p in points]
    rest = (np.array(values) - value - slope * points) / points**2
    higher = np.linalg.solve(np.vander(points, increasing=True), rest)
    curve = np.polynomial.Polynomial([value, slope, *higher])
    candidates = [1.0, *(float(r.real) for r in curve.deriv().roots() if abs(r.imag) < 1e-9 and 0 < r.real < 1)]
    return max(candidates, key=lambda point: float(curve(point)))
