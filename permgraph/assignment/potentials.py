"""Column potentials near the duals of an assignment, by a few rounds of Sinkhorn's balancing."""

from __future__ import annotations

import numpy as np

from permgraph.assignment.costs import Costs, Numbers

SHARPNESS = 4.0  # the temperature is the standard deviation / (SHARPNESS · ln n); 2 and 8 are both slower


def potentials(costs: Costs, rounds: int, every: int = 1) -> Numbers:
    """What to subtract from each column, float64 [n], so that exp(-cost / temperature) is nearly balanced.

    Balanced is doubly stochastic, once each row is divided by its sum. No such shift changes which permutation is best;
    near the dual optimum the solver's paths are short. Sinkhorn's potentials approach the duals as the temperature
    falls: Peyré and Cuturi (arXiv 1803.00567), section 4. With `every` above 1, only every so many rows are looked at.
    Memory: one float32 [n / every, n].
    """
    size = costs.size
    kernel, least = np.empty((-(-size // every), size), np.float32), np.full(size, np.inf, np.float32)
    first = 0
    for block in costs.rough():
        rows = block[::every]
        here = kernel[first : first + len(rows)]
        np.subtract(rows, rows.min(1, keepdims=True), out=here)
        np.minimum(least, here.min(0), out=least)
        first += len(rows)
    total = squares = 0.0
    for part in _parts(kernel):
        part -= least
        total += float(part.sum(dtype=np.float64))
        squares += float(np.dot(part.ravel(), part.ravel()))
    spread = squares / kernel.size - (total / kernel.size) ** 2
    if not spread > 0:
        return least.astype(np.float64)
    temperature = spread**0.5 / (SHARPNESS * np.log(size))
    for part in _parts(kernel):
        part /= np.float32(-temperature)
        np.exp(part, out=part)
    column: np.ndarray = np.ones(size, np.float32)
    for _ in range(rounds):
        sums = np.zeros(size, np.float32)
        for part in _parts(kernel):  # twice while it is in the cache
            sums += (1 / (part @ column + np.float32(1e-30))) @ part
        column = 1 / (sums + np.float32(1e-30))
    found: Numbers = least + temperature * np.log(column.astype(np.float64))
    return found


def _parts(kernel: np.ndarray) -> list[np.ndarray]:
    return np.split(kernel, range(64, len(kernel), 64))
