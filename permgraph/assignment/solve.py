"""Nested linear assignment: the tables, one a group, that bring B's places nearest to A's.

Exact where every term's groups nest; where two groups meet side by side (grouped-query attention) or one group meets
itself (a square weight), a local search. Nested heads: Verma and Elbayad (arXiv 2403.00986); flat assignment and
coordinate ascent: Git Re-Basin (arXiv 2209.04836).
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import torch

from permgraph import ranks
from permgraph.assignment.local_search import climbed, enumerated, small_group
from permgraph.assignment.nested import join, nest, parts_of, root_of, shared_axis, split
from permgraph.assignment.problem import Found, Group, Problem, Tables, Term, check_solvable, pose, value_of

__all__ = ["Group", "Solution", "Tables", "Term", "breakdown", "objective", "solve"]

THREADED_ABOVE = 2**18
"""With fewer entries in all terms, starting threads costs more than it saves."""


class Solution(dict[str, np.ndarray]):
    """Tables by group name: int64, shape (sizes of depends_on..., size), new[p] = old[table[p]] with A-side indices p.

    `exact`: the groups whose tables belong to a proven maximum; the others are a local one. `value`: the objective.
    """

    def __init__(self, tables: Tables, exact: tuple[str, ...], value: float) -> None:
        super().__init__(tables)
        self.exact = exact
        self.value = value


def objective(groups: Sequence[Group], terms: Sequence[Term], tables: Tables) -> float:
    """Σ over terms, Σ over coordinates a of matrix[a, source(a)]; source(a) is where B's unit comes from, per axis.

    Raises SpecMismatchError when a term does not fit the groups.
    """
    return value_of(pose(groups, terms), tables)


def breakdown(groups: Sequence[Group], terms: Sequence[Term], tables: Tables) -> dict[str, float]:
    """The part of the objective each group takes part in: the sum of the terms that have it as an axis.

    A term of several groups counts for each of them, so the parts of nested groups overlap.
    """
    values = [objective(groups, [term], tables) for term in terms]
    return {g.name: sum(v for v, t in zip(values, terms, strict=True) if g.name in t.groups) for g in groups}


def solve(
    groups: Sequence[Group],
    terms: Sequence[Term],
    *,
    start: Tables | None = None,
    pinned: Mapping[str, int] | None = None,
    shared: bool = False,
) -> Solution:
    """The tables that maximise `objective`.

    Exact where the groups of every term form a chain under `depends_on`: the value of sending outer unit i to j is the
    sum over its inner groups of the best assignment on block (i, j), plus its own terms. Also exact if groups that do
    not nest separate once a group of at most 4 units is held: all its elements are tried. Otherwise coordinate ascent
    (a term that has a group twice is linearised) from the identity, `start`, a relaxation and four random elements of
    fixed
    seed: a local maximum. `Solution.exact` names the groups of the first two kinds.

    Ties are broken in favour of the identity: every unit that stays earns 1e-9 of the largest |entry| of its matrix. So
    dead units stay, and, block by block, the identity wins if it is within size * 1e-9 * max |entry| of the best.
    Further ties are broken by fixed numbers, worth less than one such unit in total, and never by the solver's order.

    Parts that share no term are solved in parallel on `torch.get_num_threads()` threads. Memory for each of these: 12
    bytes for each entry of its largest matrix in addition to the terms; 4 if `assign` needs no dense solver. With
    `shared`, the processes of a torch.distributed group, which all call this with the same terms, share the parts.

    `pinned`: sizes of pinned factors that groups depend on and no term has. Raises CalibrationError when a matrix is
    not finite, SpecMismatchError when terms, groups, sizes and `start` disagree.
    """
    problem = pose(groups, terms, start, pinned)
    check_solvable(problem, terms)
    found, exact = Found(0.0, {}, True), set[str]()
    parts = list(parts_of(problem))
    for part, one in zip(parts, _shared_out(parts) if shared else _solved(parts), strict=True):
        found = join(found, one)
        exact |= set(part.groups) if one.exact else set()
    tables = {g.name: found.tables[g.name] for g in groups}
    return Solution(tables, tuple(name for name in tables if name in exact), value_of(problem, tables))


def _shared_out(parts: Sequence[Problem]) -> Iterable[Found]:
    """The solution of each part, in order; process r of n solves the r-th largest and every n-th after it."""
    order = sorted(range(len(parts)), key=lambda k: -sum(term.matrix.size for term in parts[k].terms))
    hands = [order[rank :: ranks.count()] for rank in range(ranks.count())]
    solved = ranks.shared_out(lambda mine: list(_solved([parts[k] for k in mine])), hands)
    found = dict(zip(chain(*hands), chain(*solved), strict=True))
    return [found[k] for k in range(len(parts))]


def _solved(parts: Sequence[Problem]) -> Iterable[Found]:
    """The solution of each part, in order. Uses torch's number of threads, the largest part first, if that is worth it:
    scipy's solver and numpy release the interpreter lock, and parts are independent, so the result does not change.
    """
    sizes = [sum(term.matrix.size for term in part.terms) for part in parts]
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2 or sum(sizes) < THREADED_ABOVE:
        return map(_solve, parts)
    order = sorted(range(len(parts)), key=lambda k: -sizes[k])
    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(order, pool.map(_solve, [parts[k] for k in order]), strict=True))
    return [found[k] for k in range(len(parts))]


def _solve(problem: Problem) -> Found:
    """Solve independent parts, each by the first method that applies: split, nest, enumerate, climb."""
    found = Found(0.0, {}, True)
    for part in parts_of(problem):
        if shared := shared_axis(part):
            found = join(found, split(part, shared, _solve))
        elif root := root_of(part):
            found = join(found, nest(part, root, _solve))
        elif small := small_group(part):
            found = join(found, enumerated(part, small, _solve))
        else:
            found = join(found, climbed(part, _solve))
    return found
