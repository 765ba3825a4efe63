"""A nested assignment as it is solved: groups that still move, and terms whose pinned axes A and B share.

A term's matrix has A's coordinate of every axis, then B's coordinate of the axes that still move. An axis that no
longer moves (a pinned factor, or a group held fixed) is shared by A and B, so it has no coordinate of B's own.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from permgraph.errors import CalibrationError, SpecMismatchError

Tables = Mapping[str, np.ndarray]


class Group(Protocol):
    """What `solve` needs to know of a permutation group."""

    @property
    def name(self) -> str:
        """The name that a term's axes use."""

    @property
    def size(self) -> int:
        """How many units it permutes."""

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The groups or pinned factors whose A-side index selects the permutation, all of them, outer to inner."""


@dataclass(frozen=True, eq=False)
class Term:
    """Similarity of places of A with places of B where certain groups occur together.

    `matrix` has shape (n1, ..., nm, n1, ..., nm), A's coordinates first; larger is better. `groups` names its m axes,
    outer to inner; a name that is no group's is a pinned factor, which never moves. Where a name occurs twice, an axis
    that depends on it belongs to the nearest one on its left. `weight` is what `matrix` was multiplied by.
    """

    groups: tuple[str, ...]
    matrix: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Problem:
    """Groups with what each still depends on, terms in shared form, sizes of all axes, and tables to start from."""

    groups: dict[str, tuple[str, ...]]
    terms: list[Term]
    sizes: Mapping[str, int]
    start: Tables


@dataclass(frozen=True)
class Found:
    """The value of a problem, its tables, and whether they are a proven maximum."""

    value: float
    tables: dict[str, np.ndarray]
    exact: bool


Solver = Callable[[Problem], Found]
"""Solves the remaining problem when a group is held; nesting and search call it."""


def check_solvable(problem: Problem, terms: Sequence[Term]) -> None:
    """Raises the errors of `solve` for unknown sizes, a start that does not fit, and values that are not finite."""
    absent = [d for outer in problem.groups.values() for d in outer if d not in problem.sizes]
    if absent:
        raise SpecMismatchError(f"no term tells the size of the pinned factor {absent[0]}; pass it in `pinned`")
    for name, table in problem.start.items():
        expected = tuple(problem.sizes[x] for x in (*problem.groups.get(name, ()), name))
        if table.shape != expected:
            raise SpecMismatchError(f"start: the table of {name} must have shape {expected}, not {table.shape}")
    for term in terms:
        if not (np.isfinite(term.matrix.min(initial=0)) and np.isfinite(term.matrix.max(initial=0))):
            raise CalibrationError(
                f"the similarity of {' x '.join(term.groups)} is not finite; check the activations or weights behind it"
            )


def pose(
    groups: Sequence[Group],
    terms: Sequence[Term],
    start: Tables | None = None,
    pinned: Mapping[str, int] | None = None,
) -> Problem:
    """Checks that everything fits, and gives the pinned axes of every term one coordinate instead of two."""
    deps = {g.name: g.depends_on for g in groups}
    sizes = dict(pinned or {}) | {g.name: g.size for g in groups}
    for name, outer in deps.items():
        missing = [d for o in outer if o in deps for d in deps[o] if d not in outer]
        if missing:
            raise SpecMismatchError(f"group {name} depends on {outer} but not on {missing}, which those depend on")
    for term in terms:
        _check(term, deps, sizes)
    problem = Problem(deps, [], sizes, {n: t for n, t in (start or {}).items() if n in deps})
    return replace(problem, terms=[_share(problem, term) for term in terms])


def _check(term: Term, deps: Mapping[str, tuple[str, ...]], sizes: dict[str, int]) -> None:
    half = len(term.groups)
    shape = term.matrix.shape
    if len(shape) != 2 * half or shape[:half] != shape[half:]:
        raise SpecMismatchError(f"term {term.groups}: a matrix of shape (n..., n...) expected, not {shape}")
    for name, size in zip(term.groups, shape, strict=False):
        if sizes.setdefault(name, size) != size:
            raise SpecMismatchError(f"term {term.groups}: axis {name} has {size} units, its group has {sizes[name]}")
        missing = [d for d in deps.get(name, ()) if d not in term.groups]
        if missing:
            raise SpecMismatchError(f"term {term.groups}: {name} depends on {missing}, which must be axes too")


def _share(problem: Problem, term: Term) -> Term:
    """Takes the diagonal of every pinned axis, a view, and sums those that no group depends on."""
    half = len(term.groups)
    moving = [k for k in range(half) if term.groups[k] in problem.groups]
    kept = with_outer(problem, term, moving)
    labels = list(range(half)) + [k + half if k in moving else k for k in range(half)]
    matrix = np.einsum(term.matrix, labels, [*kept, *(k + half for k in moving)])
    return Term(tuple(term.groups[k] for k in kept), matrix)


def outer_axes(problem: Problem, term: Term, axis: int) -> list[int]:
    """The axes that select the permutation at `axis`: for each name the nearest on the left, else the first."""
    places = []
    for name in problem.groups[term.groups[axis]]:
        at = [k for k, other in enumerate(term.groups) if other == name]
        places.append(max((k for k in at if k < axis), default=at[0]))
    return places


def with_outer(problem: Problem, term: Term, axes: Collection[int]) -> list[int]:
    """These axes and all that select their permutations."""
    return sorted({*axes, *(k for axis in axes for k in outer_axes(problem, term, axis))})


def moving_axes(problem: Problem, term: Term) -> list[int]:
    """The axes whose groups still move."""
    return [k for k, name in enumerate(term.groups) if name in problem.groups]


def value_of(problem: Problem, tables: Tables) -> float:
    """The objective of a problem at `tables`."""
    return sum(float(freeze(problem, term, [], tables).matrix) for term in problem.terms)


@lru_cache(maxsize=1024)  # a search asks for the same few shapes thousands of times
def _grid(shape: tuple[int, ...]) -> list[np.ndarray]:
    """`np.ogrid` of this shape: along each axis its indices, to index with."""
    return list(np.ogrid[tuple(map(slice, shape))])


def freeze(problem: Problem, term: Term, kept: Sequence[int], tables: Tables) -> Term:
    """Holds the moving axes outside `kept` at their sources, and sums the axes that nothing kept depends on."""
    moving, axes = moving_axes(problem, term), len(term.groups)
    places = [*range(axes), *(axes + moving.index(k) for k in kept)]
    grid = _grid(tuple(term.matrix.shape[p] for p in places))
    index = grid[:axes]
    for k in moving:
        if k in kept:
            index.append(grid[axes + kept.index(k)])
        else:
            place = [grid[p] for p in (*outer_axes(problem, term, k), k)]
            index.append(tables[term.groups[k]][tuple(place)])
    staying = with_outer(problem, term, kept)
    summed = tuple(k for k in range(axes) if k not in staying)
    matrix = term.matrix[tuple(index)].sum(axis=summed, dtype=np.float64)
    return Term(tuple(term.groups[k] for k in staying), matrix)
