"""What is kept of a correlation matrix once it is solved: each unit with its partner, and a sample of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from permgraph.assignment.problem import Group, Problem, Tables, Term, outer_axes, pose
from permgraph.symmetry.elements.parts import Index

Array = npt.NDArray[np.float32]
PICTURE = 96
"""Units along an edge of a picture, at most."""


@dataclass(frozen=True, eq=False)
class Partners:
    """Units of A and B at one point of the graph, in row-major order over all its groups.

    Attributes:
        groups: the groups, and the pinned factors, whose units meet there, outer to inner.
        identity: [n], correlation of each unit of A with the unit of B at its own place.
        solution: [n], correlation of each unit of A with the unit of B that is moved to its place.
        unmoved: [m, m], correlation of every k-th unit of A with every k-th unit of B, m ≤ 96. A sample, since the mean
            of a block hides the matches and its maximum invents some.
        moved: [m, m], the same with B's units moved.

    """

    groups: tuple[str, ...]
    identity: Array
    solution: Array
    unmoved: Array
    moved: Array

    def __repr__(self) -> str:
        before, after = self.identity.mean(), self.solution.mean()
        return f"Partners({' × '.join(self.groups)}: {len(self.identity)} units, mean {before:.3f} -> {after:.3f})"


def partners_of(groups: Sequence[Group], terms: Sequence[Term], tables: Tables) -> tuple[Partners, ...]:
    """The partners at each term, in the order of the terms; O(n²) each."""
    problem = pose(groups, [])
    return tuple(_partners(problem, term, tables) for term in terms)


def _partners(problem: Problem, term: Term, tables: Tables) -> Partners:
    source = flat_source(problem, term, tables)
    matrix = term.matrix.reshape(source.size, source.size)
    if term.weight != 1:
        matrix = matrix / term.weight
    units = np.arange(source.size)
    some = units[:: -(-source.size // PICTURE)]
    return Partners(
        term.groups,
        matrix[units, units].astype(np.float32),
        matrix[units, source].astype(np.float32),
        matrix[np.ix_(some, some)].astype(np.float32),
        matrix[np.ix_(some, source[some])].astype(np.float32),
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
