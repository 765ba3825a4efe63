"""What is kept of a correlation matrix once it is solved: each unit with its partner, and a small picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from permgraph.matching.posing import Group, Problem, Tables, Term, outer_axes, pose
from permgraph.symmetry.layout import Index

Array = npt.NDArray[np.float32]
PICTURE = 96
"""Pixels along an edge of a picture, at most."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Units of A and B at one point of the graph, those of all its groups counted through, the last the fastest.

    Attributes:
        groups: the groups, and the pinned factors, whose units meet there, outer to inner.
        identity: [n], correlation of each unit of A with the unit of B at its own place.
        solution: [n], correlation of each unit of A with the unit of B that is moved to its place.
        unmoved: [m, m], the largest signed correlation in each block of units of A and units of B, m ≤ 96.
        moved: [m, m], the same with B's units moved.

    """

    groups: tuple[str, ...]
    identity: Array
    solution: Array
    unmoved: Array
    moved: Array


def compare(groups: Sequence[Group], terms: Sequence[Term], tables: Tables) -> tuple[Comparison, ...]:
    """One comparison a term, in the order of the terms; O(n²) each."""
    problem = pose(groups, [])
    return tuple(_compare(problem, term, tables) for term in terms)


def _compare(problem: Problem, term: Term, tables: Tables) -> Comparison:
    source = flat_source(problem, term, tables)
    matrix = term.matrix.reshape(source.size, source.size)
    units = np.arange(source.size)
    return Comparison(
        term.groups,
        matrix[units, units].astype(np.float32),
        matrix[units, source].astype(np.float32),
        pooled(matrix),
        pooled(matrix[:, source]),
    )


def flat_source(problem: Problem, term: Term, tables: Tables) -> Index:
    """[n]: for each place of A, all axes of the term counted as one, the place of B that is moved there."""
    sizes = term.matrix.shape[: len(term.groups)]
    grid: tuple[Index, ...] = np.indices(sizes, sparse=True)
    source: Index = np.zeros([1] * len(sizes), dtype=np.int64)
    for k, name in enumerate(term.groups):
        own: Index = grid[k]
        if name in problem.groups:
            own = tables[name][(*(grid[outer] for outer in outer_axes(problem, term, k)), grid[k])]
        source = source * sizes[k] + own
    return np.broadcast_to(source, sizes).reshape(-1)


def pooled(matrix: npt.NDArray[np.float64], most: int = PICTURE) -> Array:
    """[m, m], m = min(n, most): the largest entry of each block; a mean would hide a permutation among its zeros."""
    edges = np.linspace(0, len(matrix), min(len(matrix), most) + 1).round().astype(np.int64)[:-1]
    return np.maximum.reduceat(np.maximum.reduceat(matrix, edges, axis=0), edges, axis=1).astype(np.float32)
