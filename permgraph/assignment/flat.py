"""Linear assignment made easy for the solver: ties decided, then rows and columns shifted to be nearly balanced."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

TOLERANCE = 1e-9
"""What a unit earns by staying in place, relative to the largest |entry| of the matrix: it decides ties, no more."""

BALANCED_ABOVE = 256  # units: below, the solver is faster than the balancing
ROUNDS = 20
ROWS = 128  # at once, so that the preference of a large matrix is never held whole
KEPT = 8  # preferences of ROWS rows, for the next matrix of their size
SHARPNESS = 4.0  # the temperature is the standard deviation / (SHARPNESS · ln n); 2 and 8 are both slower


def assign(value: np.ndarray) -> np.ndarray:
    """argmax over perm of Σ_i value[i, perm[i]], exactly; int64 [n].

    Ties go to the units that stay, each of which earns TOLERANCE · max |value|, and beyond that to a fixed preference
    that is worth less than one of these in all: no tie is left to the order of the solver's steps.
    Memory: one float64 [n, n] beside `value`.
    """
    size = len(value)
    if size <= BALANCED_ABOVE:
        found: np.ndarray = assign_each(value[None])[0]
        return found
    largest = max(float(value.max(initial=0)), -float(value.min(initial=0)))
    if largest == 0:
        return np.arange(size)
    nearest: np.ndarray = np.concatenate([rows.argmin(1) for rows in _costs(value, largest)])
    if len(np.unique(nearest)) == size:
        return nearest.astype(np.int64, copy=False)
    shift, cost = _potentials(value), np.empty((size, size))
    for first, rows in zip(range(0, size, ROWS), _costs(value, largest), strict=True):
        rows -= shift
        np.subtract(rows, rows.min(1, keepdims=True), out=cost[first : first + ROWS])
    return _solved(cost)


def assign_each(values: np.ndarray) -> np.ndarray:
    """`assign` of every matrix in a stack [k, n, n], their costs prepared together; int64 [k, n]."""
    count, size = values.shape[:2]
    if size > BALANCED_ABOVE:
        return np.array([assign(value) for value in values], np.int64).reshape(count, size)
    largest = np.maximum(values.max((1, 2), initial=0), -values.min((1, 2), initial=0)).astype(np.float64)
    bonus, units = TOLERANCE * largest, np.arange(size)
    costs = np.negative(values, dtype=np.float64, order="C")
    costs -= (bonus / max(size, 1))[:, None, None] * _preference(0, size, size)
    costs[:, units, units] -= bonus[:, None]
    costs -= costs.min(2, keepdims=True, initial=np.inf)
    found = [_solved(cost) if most else units for cost, most in zip(costs, largest, strict=True)]
    return np.array(found, np.int64).reshape(count, size)


def _solved(cost: np.ndarray) -> np.ndarray:
    perm: np.ndarray = linear_sum_assignment(cost)[1].astype(np.int64, copy=False)
    return perm


def _costs(value: np.ndarray, largest: float) -> Iterator[np.ndarray]:
    """What the solver minimises, ROWS rows at a time, float64: -value, less what decides ties."""
    size = len(value)
    preference = _preference if size <= KEPT * ROWS else _preference.__wrapped__  # more would only push each other out
    for first in range(0, size, ROWS):
        rows = np.negative(value[first : first + ROWS], dtype=np.float64, order="C")
        units = np.arange(len(rows))
        rows -= (TOLERANCE * largest / size) * preference(first, first + len(rows), size)
        rows[units, first + units] -= TOLERANCE * largest
        yield rows


@lru_cache(maxsize=KEPT)
def _preference(first: int, last: int, size: int) -> np.ndarray:
    """Rows of fixed numbers in [0, 1): float32, (i j · 2654435761 mod 2³²) / 2³² with i, j from 1 (Knuth's hash)."""
    rows, columns = np.arange(first + 1, last + 1, dtype=np.uint32), np.arange(1, size + 1, dtype=np.uint32)
    hashed = np.multiply.outer(rows * np.uint32(2654435761), columns)
    found: np.ndarray = hashed.astype(np.float32) * np.float32(2**-32)
    return found


def _potentials(value: np.ndarray) -> np.ndarray:
    """What to subtract from each column of -value, float64 [n], so that exp(-cost / temperature) is nearly balanced.

    Balanced is doubly stochastic, once each row is divided by its sum. No such shift changes which permutation is best;
    near the dual optimum the solver's paths are short. Sinkhorn's potentials approach the duals as the temperature
    falls: Peyré and Cuturi (arXiv 1803.00567), section 4.
    """
    kernel = np.negative(value, dtype=np.float32, order="C")
    kernel -= kernel.min(1, keepdims=True)
    least: np.ndarray = kernel.min(0)
    kernel -= least
    flat = kernel.ravel()
    spread = float(np.dot(flat, flat)) / flat.size - float(flat.mean(dtype=np.float64)) ** 2
    if not spread > 0:
        return np.asarray(least, dtype=np.float64)
    temperature = spread**0.5 / (SHARPNESS * np.log(len(kernel)))
    kernel /= np.float32(-temperature)
    np.exp(kernel, out=kernel)
    column: np.ndarray = np.ones(len(kernel), np.float32)
    for _ in range(ROUNDS):
        row = 1 / (kernel @ column + np.float32(1e-30))
        column = 1 / (row @ kernel + np.float32(1e-30))
    found: np.ndarray = least + temperature * np.log(column.astype(np.float64))
    return found
