"""Linear assignment made easy for the solver: ties decided, then rows and columns shifted to be nearly balanced."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

TOLERANCE = 1e-9
"""What a unit earns by staying in place, relative to the largest |entry| of the matrix: it decides ties, no more."""

BALANCED_ABOVE = 256  # units: below, the solver is faster than the balancing
ROUNDS = 20
ROWS = 128  # at once, so that the preference of a large matrix is never held whole
SHARPNESS = 4.0  # the temperature is the standard deviation / (SHARPNESS · ln n); 2 and 8 are both slower


def assign(value: np.ndarray) -> np.ndarray:
    """argmax over perm of Σ_i value[i, perm[i]], exactly; int64 [n].

    Ties go to the units that stay, each of which earns TOLERANCE · max |value|, and beyond that to a fixed preference
    that is worth less than one of these in all: no tie is left to the order of the solver's steps.
    """
    largest = max(float(value.max(initial=0)), -float(value.min(initial=0)))
    size = len(value)
    if largest == 0:
        return np.arange(size)
    cost = np.negative(value, dtype=np.float64, order="C")
    for first in range(0, size, ROWS):
        cost[first : first + ROWS] -= (TOLERANCE * largest / size) * _preference(first, min(first + ROWS, size), size)
    cost.flat[:: size + 1] -= TOLERANCE * largest
    if size > BALANCED_ABOVE:
        nearest: np.ndarray = cost.argmin(1).astype(np.int64, copy=False)
        if len(np.unique(nearest)) == size:
            return nearest
        _balance(cost)
    perm: np.ndarray = linear_sum_assignment(cost)[1].astype(np.int64, copy=False)
    return perm


@lru_cache(maxsize=8)
def _preference(first: int, last: int, size: int) -> np.ndarray:
    """Rows of fixed numbers in [0, 1): float32, (i j · 2654435761 mod 2³²) / 2³² with i, j from 1 (Knuth's hash)."""
    rows, columns = np.arange(first + 1, last + 1, dtype=np.uint32), np.arange(1, size + 1, dtype=np.uint32)
    hashed = np.multiply.outer(rows * np.uint32(2654435761), columns)
    found: np.ndarray = hashed.astype(np.float32) * np.float32(2**-32)
    return found


def _balance(cost: np.ndarray) -> None:
    """Subtract from each row and each column, in place, what makes exp(-cost / temperature) nearly doubly stochastic.

    No such shift changes which permutation is best; near the dual optimum the solver's paths are short. Sinkhorn's
    potentials approach the duals as the temperature falls: Peyré and Cuturi (arXiv 1803.00567), section 4.
    """
    cost -= cost.min(1, keepdims=True)
    cost -= cost.min(0)
    kernel = cost.astype(np.float32)
    flat = kernel.ravel()
    spread = float(np.dot(flat, flat)) / flat.size - float(flat.mean(dtype=np.float64)) ** 2
    if not spread > 0:
        return
    temperature = spread**0.5 / (SHARPNESS * np.log(len(cost)))
    kernel /= np.float32(-temperature)
    np.exp(kernel, out=kernel)
    column: np.ndarray = np.ones(len(cost), np.float32)
    for _ in range(ROUNDS):
        row = 1 / (kernel @ column + np.float32(1e-30))
        column = 1 / (row @ kernel + np.float32(1e-30))
    cost -= temperature * np.log(column.astype(np.float64))
    cost -= cost.min(1, keepdims=True)
