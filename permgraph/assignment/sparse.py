"""Large assignments: solved on a few entries of each row; entries that the duals do not cover are added.

An assignment π is optimal if there are duals u, v with u_i + v_j <= c_ij everywhere and equality where j = π(i): linear
programming duality. Column generation: Volgenant, Linear and semi-assignment problems, a core oriented approach (1996).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from permgraph.assignment.costs import TOLERANCE, Costs, Index, Numbers

CANDIDATES = 24
"""Entries of each row to start with: in noise the optimum has nearly all of its entries among these."""
TAKEN_IN = 8  # entries of a row at once that the duals do not cover
ROUNDS = 12
MOST = 0.1  # share of all entries above which the dense solver is faster
STEP = 2.0**-20
"""What costs are first rounded to, in units of the largest: ties are no closer, and the sums of such numbers exact."""
SWEEPS, AT_ONCE, IDLE = 2048, 32, 4  # of Bellman and Ford's, for the duals: as many as a cheapest way has edges
ROUNDING = 1e-14
"""What the sums along a path may be off by, in units of the largest |cost|."""
COVERED = 1e-13
"""How far below zero a reduced cost may be, in the same units: the optimum is missed by at most n times as much."""
ROUGH = 2e-6
"""What float32 may be off by in a reduced cost, relative to the largest |dual|, ties included."""


@dataclass
class Edges:
    """Entries of a matrix of costs by key = row · size + column, ascending."""

    size: int
    keys: Index = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, *keys: Index) -> None:
        """Add further entries; entries that are present stay."""
        together = np.sort(np.concatenate([self.keys, *keys]))  # faster than np.unique, which hashes
        self.keys = together[np.diff(together, prepend=-1) > 0]


def assign_sparse(costs: Costs, shift: Numbers) -> tuple[Index | None, Numbers]:
    """argmin over perm of Σ_i c[i, perm[i]], int64 [n], and column duals; None if it is not found soon.

    `shift` approximates the columns' duals. The reduced costs of all entries of the result are at least -COVERED, so no
    assignment is better by more than n · COVERED, the largest |cost| being 1. Memory: a few times CANDIDATES · n.
    """
    edges, duals = _candidates(costs, shift), shift
    for _ in range(ROUNDS):
        perm, found = _solved(costs, edges, duals)
        if found is None:
            return None, duals
        duals = found
        missing = _uncovered(costs, perm, duals)
        if not len(missing):
            return perm, duals
        edges.add(missing)
        if len(edges.keys) > MOST * costs.size**2:
            break
    return None, duals


def _candidates(costs: Costs, shift: Numbers) -> Edges:
    """The CANDIDATES least c - shift of each row, and the diagonal, so that there is an assignment among them."""
    edges, keys, first = Edges(costs.size), list[Index](), 0
    narrow = shift.astype(np.float32)
    for rows in costs.rough():
        rows -= narrow
        keys.append((np.arange(first, first + len(rows))[:, None] * edges.size + _least(rows, CANDIDATES)).ravel())
        first += len(rows)
    edges.add(np.arange(costs.size) * (costs.size + 1), *keys)
    return edges


def _least(rows: npt.NDArray[np.floating], count: int) -> Index:
    found: Index = torch.topk(torch.from_numpy(rows), min(count, rows.shape[1]), largest=False, sorted=False)[1].numpy()
    return found


def _solved(costs: Costs, edges: Edges, shift: Numbers) -> tuple[Index, Numbers | None]:
    """The optimum among `edges`, and its column duals; None if they are not found soon.

    The solver's prices rise in steps as small as the differences of costs, so its costs are rounded to multiples of
    STEP, and its result is improved to the optimum afterwards.
    """
    size = edges.size
    rows, columns = np.divmod(edges.keys, size)
    starts = np.searchsorted(rows, np.arange(size + 1))
    weights = costs.at(rows, columns) - shift[columns]
    weights -= np.minimum.reduceat(weights, starts[:-1])[rows]
    whole = np.rint(weights / STEP) + np.where(rows == columns, 1, 2)  # units stay if they can
    graph = csr_matrix((whole, columns.astype(np.int32), starts.astype(np.int32)), shape=(size, size))
    perm: Index = min_weight_full_bipartite_matching(graph)[1].astype(np.int64, copy=False)
    order = np.argsort(columns, kind="stable")
    perm, potentials = _improved(perm, rows[order], columns[order], weights[order])
    return perm, None if potentials is None else shift + potentials


def _improved(perm: Index, rows: Index, columns: Index, weights: Numbers) -> tuple[Index, Numbers | None]:
    """The optimum near an assignment, and p with p_j <= p_π(i) + w_ij - w_iπ(i) for all edges, in the order of j.

    p are shortest paths by Bellman and Ford's sweeps. These end unless there are negative cycles, by which π improves:
    such cycles are applied as they appear among the last edges of the shortest paths. None if that does not end soon,
    or if only ties remain, to be decided one after the other.
    """
    size, idle = len(perm), 0
    starts, own, found = np.searchsorted(columns, np.arange(size)), np.empty(size), np.zeros(size)
    for _ in range(SWEEPS // AT_ONCE):
        matched = columns == perm[rows]
        own[rows[matched]] = weights[matched]
        sources, lengths = perm[rows], weights - own[rows]
        for _ in range(AT_ONCE):
            ways = found[sources] + lengths
            nearer = np.minimum(found, np.minimum.reduceat(ways, starts))
            gained = float((found - nearer).max())
            found = nearer
            if gained <= ROUNDING:
                return perm, found
        idle += gained < 10 * TOLERANCE
        if idle > IDLE:
            break
        least = np.flatnonzero(ways == np.minimum.reduceat(ways, starts)[columns])
        last = least[np.searchsorted(columns[least], np.arange(size))]  # the last edge of the shortest path to each
        better = _cycles(sources[last], lengths[last])
        perm = perm.copy()
        perm[rows[last[better]]] = better
    return perm, None


def _cycles(sources: Index, lengths: Numbers) -> Index:
    """The columns on cycles of negative length, where each column has one edge, from its source."""
    size = len(sources)
    jump = sources
    for _ in range(size.bit_length()):
        jump = jump[jump]
    on = np.unique(jump)  # after so many steps every walk is on a cycle, and every column of one is reached
    name, jump = np.arange(size), sources
    for _ in range(size.bit_length()):
        name, jump = np.minimum(name, name[jump]), jump[jump]
    total = np.bincount(name[on], lengths[on], size)
    found: Index = on[total[name[on]] < -ROUNDING]
    return found


def _uncovered(costs: Costs, perm: Index, duals: Numbers) -> Index:
    """Keys of entries with c - u - v < 0, the TAKEN_IN least of each row; float32 says where to look."""
    units = np.arange(costs.size)
    own = costs.at(units, perm) - duals[perm]
    rough = ROUGH * max(1.0, float(np.abs(duals).max()), float(np.abs(own).max()))
    columns, rows_of = duals.astype(np.float32), own.astype(np.float32)
    keys, first = [np.empty(0, np.int64)], 0
    for rows in costs.rough():
        here = units[first : first + len(rows)]
        rows -= columns
        rows -= rows_of[here][:, None]
        rows[here - first, perm[here]] = np.inf
        near = np.flatnonzero(rows.min(1) < rough)
        if len(near):
            some, other = here[near][:, None], _least(rows[near], TAKEN_IN)
            wrong = costs.at(np.broadcast_to(some, other.shape), other) - duals[other] - own[some] < -COVERED
            keys.append((some * costs.size + other)[wrong])
        first += len(rows)
    return np.concatenate(keys)
