"""Exact linear assignment with ties broken: by a dense solver, or for many units on a few entries of each row."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from permgraph.assignment.costs import ROWS, TOLERANCE, Costs, Index, preference
from permgraph.assignment.potentials import potentials
from permgraph.assignment.sparse import assign_sparse
from permgraph.errors import CalibrationError

BALANCED_ABOVE = 256  # units: below, the solver is faster than the balancing
SPARSE_ABOVE = 1024  # units: below, the dense solver is as fast
ROUNDS, ROUNDS_OF_SPARSE = 20, 12  # of balancing: the sparse solver needs fewer
EVERY = 2  # row is balanced for the sparse solver: half of them tell its columns' duals well enough to start with


def assign(value: np.ndarray) -> Index:
    """argmax over perm of Σ_i value[i, perm[i]], exactly; int64 [n].

    Ties are broken in favour of units that stay, each of which earns TOLERANCE · max |value|, and then by a fixed
    preference that is worth less than one of these in total: the order of the solver's steps decides no tie. Above
    SPARSE_ABOVE units, duals prove that the sum is within n · 1e-13 · max |value| of the largest.

    Memory: one float32 [n, n] in addition to `value`, and one float64 if many entries are nearly equal.
    Raises CalibrationError for values that are not finite.
    """
    size = len(value)
    if size <= BALANCED_ABOVE:
        small: Index = assign_each(value[None])[0]
        return small
    costs = Costs(value)
    _require_finite(costs.largest)
    if costs.largest == 0:
        return np.arange(size)
    nearest = _nearest(costs)
    if nearest is not None:
        return nearest
    if size > SPARSE_ABOVE:
        best, shift = assign_sparse(costs, potentials(costs, ROUNDS_OF_SPARSE, EVERY))
        if best is not None:
            return best
    else:
        shift = potentials(costs, ROUNDS)
    dense = np.empty((size, size))
    for first, rows in zip(range(0, size, ROWS), costs, strict=True):
        rows -= shift
        np.subtract(rows, rows.min(1, keepdims=True), out=dense[first : first + ROWS])
    return _solved(dense)


def assign_each(values: np.ndarray) -> Index:
    """`assign` for every matrix in a stack [k, n, n], with their costs prepared together; int64 [k, n]."""
    count, size = values.shape[:2]
    if size > BALANCED_ABOVE:
        return np.array([assign(value) for value in values], np.int64).reshape(count, size)
    largest = np.maximum(values.max((1, 2), initial=0), -values.min((1, 2), initial=0)).astype(np.float64)
    _require_finite(float(largest.max(initial=0)))
    if size == 1:
        return np.zeros((count, 1), np.int64)
    bonus, units = TOLERANCE * largest, np.arange(size)
    costs = np.negative(values, dtype=np.float64, order="C")
    costs -= (bonus / max(size, 1))[:, None, None] * preference(0, size, size)
    costs[:, units, units] -= bonus[:, None]
    costs -= costs.min(2, keepdims=True, initial=np.inf)
    found = [_solved(cost) if most else units for cost, most in zip(costs, largest, strict=True)]
    return np.array(found, np.int64).reshape(count, size)


def _nearest(costs: Costs) -> Index | None:
    """The cheapest column of each row; None if two rows have the same."""
    taken, found = np.zeros(costs.size, bool), list[Index]()
    for first in range(0, costs.size, ROWS):
        nearest = costs.nearest(first)
        if taken[nearest].any() or len(np.unique(nearest)) < len(nearest):
            return None
        taken[nearest] = True
        found.append(nearest)
    return np.concatenate(found)


def _require_finite(largest: float) -> None:
    if not np.isfinite(largest):
        raise CalibrationError(
            "an assignment has values that are not finite; check the activations or weights behind it"
        )


def _solved(cost: np.ndarray) -> Index:
    perm: Index = linear_sum_assignment(cost)[1].astype(np.int64, copy=False)
    return perm
