"""Nested linear assignment: the tables, one a group, that bring B's places nearest to A's.

Exact where every term's groups nest; where two groups meet side by side (grouped-query attention) or one group meets
itself (a square weight), a local search. Nested heads: Verma and Elbayad (arXiv 2403.00986); flat assignment and
coordinate ascent: Git Re-Basin (arXiv 2209.04836).

Inside, a problem is `_Problem`: groups that still move, each with the names it still depends on, and terms whose matrix
has A's coordinate of every axis, then B's coordinate of the axes that still move. An axis that no longer moves (a
pinned factor, or a group held fixed) is shared by A and B, so it has no coordinate of B's own.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from permgraph.errors import CalibrationError, SpecMismatchError

TOLERANCE = 1e-9
"""What a unit earns by staying in place, relative to the largest |entry| of the matrix: it decides ties, no more."""

ENUMERATED = 4
"""The largest group tried element by element (4! = 24) rather than climbed when it meets another side by side."""

RANDOM_STARTS = 4

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
    that depends on it belongs to the nearest one on its left.
    """

    groups: tuple[str, ...]
    matrix: np.ndarray


class Solution(dict[str, np.ndarray]):
    """Tables by group name: int64, shape (sizes of depends_on..., size), new[p] = old[table[p]] with A-side indices p.

    `exact`: the groups whose tables belong to a proven maximum; the others are a local one. `value`: the objective.
    """

    def __init__(self, tables: Tables, exact: tuple[str, ...], value: float) -> None:
        super().__init__(tables)
        self.exact = exact
        self.value = value


@dataclass(frozen=True)
class _Problem:
    groups: dict[str, tuple[str, ...]]
    terms: list[Term]
    sizes: Mapping[str, int]
    start: Tables


@dataclass(frozen=True)
class _Found:
    value: float
    tables: dict[str, np.ndarray]
    exact: bool


def objective(groups: Sequence[Group], terms: Sequence[Term], tables: Tables) -> float:
    """Σ over terms, Σ over coordinates a of matrix[a, source(a)]; source(a) is where B's unit comes from, per axis.

    Raises SpecMismatchError when a term does not fit the groups.
    """
    return _value(_pose(groups, terms), tables)


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
) -> Solution:
    """The tables that maximise `objective`.

    Exact where the groups of every term form a chain under `depends_on`: the value of sending outer unit i to j is the
    sum over its inner groups of the best assignment on block (i, j), plus its own terms. Exact too where groups that
    meet side by side come apart once a group of at most 4 units is held, by trying all its elements. Else coordinate
    ascent (a term that meets a group twice is linearised) from the identity, `start`, a relaxation and four random
    elements of fixed seed: a local maximum. `Solution.exact` names the groups of the first two kinds.

    Ties go to the identity: every unit that stays where it is earns 1e-9 of the largest |entry| of its matrix. So dead
    units stay, and, block by block, the identity wins wherever it is within size * 1e-9 * max |entry| of the best.

    `pinned`: sizes of pinned factors that groups depend on and no term has. Raises CalibrationError when a matrix is
    not finite, SpecMismatchError when terms, groups, sizes and `start` disagree.
    """
    problem = _pose(groups, terms, start, pinned)
    _check_solvable(problem, terms)
    found, exact = _Found(0.0, {}, True), set[str]()
    for part in _parts(problem):
        one = _solve(part)
        found = _join(found, one)
        exact |= set(part.groups) if one.exact else set()
    tables = {g.name: found.tables[g.name] for g in groups}
    return Solution(tables, tuple(name for name in tables if name in exact), _value(problem, tables))


# --- posing ---


def _check_solvable(problem: _Problem, terms: Sequence[Term]) -> None:
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


def _pose(
    groups: Sequence[Group],
    terms: Sequence[Term],
    start: Tables | None = None,
    pinned: Mapping[str, int] | None = None,
) -> _Problem:
    """Checks that everything fits, and gives the pinned axes of every term one coordinate in place of two."""
    deps = {g.name: g.depends_on for g in groups}
    sizes = dict(pinned or {}) | {g.name: g.size for g in groups}
    for name, outer in deps.items():
        missing = [d for o in outer if o in deps for d in deps[o] if d not in outer]
        if missing:
            raise SpecMismatchError(f"group {name} depends on {outer} but not on {missing}, which those depend on")
    for term in terms:
        _check(term, deps, sizes)
    problem = _Problem(deps, [], sizes, {n: t for n, t in (start or {}).items() if n in deps})
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


def _share(problem: _Problem, term: Term) -> Term:
    """Takes the diagonal of every pinned axis, a view, and sums those that no group depends on."""
    half = len(term.groups)
    moving = [k for k in range(half) if term.groups[k] in problem.groups]
    kept = _with_outer(problem, term, moving)
    labels = list(range(half)) + [k + half if k in moving else k for k in range(half)]
    matrix = np.einsum(term.matrix, labels, [*kept, *(k + half for k in moving)])
    return Term(tuple(term.groups[k] for k in kept), matrix)


def _outer(problem: _Problem, term: Term, axis: int) -> list[int]:
    """The axes that select the permutation at `axis`: for each name the nearest on the left, else the first."""
    places = []
    for name in problem.groups[term.groups[axis]]:
        at = [k for k, other in enumerate(term.groups) if other == name]
        places.append(max((k for k in at if k < axis), default=at[0]))
    return places


def _with_outer(problem: _Problem, term: Term, axes: Collection[int]) -> list[int]:
    return sorted({*axes, *(k for axis in axes for k in _outer(problem, term, axis))})


def _moving(problem: _Problem, term: Term) -> list[int]:
    return [k for k, name in enumerate(term.groups) if name in problem.groups]


# --- exact ---


def _solve(problem: _Problem) -> _Found:
    """Parts that share nothing, each by the first way that fits: split, nest, enumerate, climb."""
    found = _Found(0.0, {}, True)
    for part in _parts(problem):
        if shared := _shared_axis(part):
            found = _join(found, _split(part, shared))
        elif root := _root(part):
            found = _join(found, _nest(part, root))
        elif small := _small(part):
            found = _join(found, _enumerate(part, small))
        else:
            found = _join(found, _climb(part))
    return found


def _join(one: _Found, other: _Found) -> _Found:
    return _Found(one.value + other.value, one.tables | other.tables, one.exact and other.exact)


def _parts(problem: _Problem) -> Iterator[_Problem]:
    """Connected sets of groups: together in a term, or one dependent on the other."""
    ties = [[name, *(d for d in deps if d in problem.groups)] for name, deps in problem.groups.items()]
    ties += [[name for name in term.groups if name in problem.groups] for term in problem.terms]
    label = {name: name for name in problem.groups}
    for tie in ties:
        merged = {label[name] for name in tie}
        label = {name: label[tie[0]] if mark in merged else mark for name, mark in label.items()}
    for mark in dict.fromkeys(label.values()):
        groups = {name: deps for name, deps in problem.groups.items() if label[name] == mark}
        yield replace(problem, groups=groups, terms=[t for t in problem.terms if any(n in groups for n in t.groups)])


def _shared_axis(part: _Problem) -> str | None:
    """A factor that no longer moves and that all groups depend on: each of its indices is a problem apart."""
    for name in next(iter(part.groups.values())):
        if (
            name not in part.groups
            and all(name in deps for deps in part.groups.values())
            and all(t.groups.count(name) == 1 for t in part.terms)
        ):
            return name
    return None


def _root(part: _Problem) -> str | None:
    """The group without dependence that all others depend on, if no term has it twice."""
    for name, deps in part.groups.items():
        if (
            not deps
            and all(name in other for key, other in part.groups.items() if key != name)
            and all(t.groups.count(name) <= 1 for t in part.terms)
        ):
            return name
    return None


def _at(problem: _Problem, name: str, a: int, b: int | None) -> _Problem:
    """The problem at index `a` of A's axis `name`, and `b` of B's where it moves."""
    terms = []
    for term in problem.terms:
        axis = term.groups.index(name)
        index: list[int | slice] = [slice(None)] * term.matrix.ndim
        index[axis] = a
        if b is not None:
            index[len(term.groups) + _moving(problem, term).index(axis)] = b
        terms.append(Term(term.groups[:axis] + term.groups[axis + 1 :], term.matrix[tuple(index)]))
    groups = {key: tuple(d for d in deps if d != name) for key, deps in problem.groups.items() if key != name}
    start = {
        key: table.take(a, problem.groups[key].index(name))
        for key, table in problem.start.items()
        if name in problem.groups.get(key, ())
    }
    return _Problem(groups, terms, problem.sizes, start)


def _stack(problem: _Problem, name: str, found: Sequence[_Found]) -> dict[str, np.ndarray]:
    """Joins the tables found at every index of `name` into tables that depend on it."""
    inner = [key for key in problem.groups if key != name]
    return {key: np.stack([f.tables[key] for f in found], axis=problem.groups[key].index(name)) for key in inner}


def _split(part: _Problem, name: str) -> _Found:
    """One problem for each index of a factor that no longer moves."""
    found = [_solve(_at(part, name, p, None)) for p in range(part.sizes[name])]
    return _Found(sum(f.value for f in found), _stack(part, name, found), all(f.exact for f in found))


def _nest(part: _Problem, root: str) -> _Found:
    """value[i, j] = the root's own terms + the best inner value of block (i, j); then one assignment over i and j."""
    size = part.sizes[root]
    value = _total([t.matrix for t in part.terms if t.groups == (root,)], size)
    if len(part.groups) == 1:
        perm = _assign(value)
        return _Found(_gathered(value, perm), {root: perm}, True)
    inner = replace(part, terms=[t for t in part.terms if t.groups != (root,)])
    found = [[_solve(_at(inner, root, i, j)) for j in range(size)] for i in range(size)]
    value = value + np.array([[f.value for f in row] for row in found])
    perm = _assign(value)
    chosen = [found[i][j] for i, j in enumerate(perm)]
    tables = {root: perm} | _stack(part, root, chosen)
    return _Found(_gathered(value, perm), tables, all(f.exact for row in found for f in row))


def _total(matrices: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The sum in float64; a single matrix is passed on as it is, uncopied."""
    if not matrices:
        return np.zeros((size, size))
    total = matrices[0]
    for count, matrix in enumerate(matrices[1:]):
        total = np.add(total, matrix, dtype=np.float64, out=total if count else None)
    return total


def _assign(value: np.ndarray) -> np.ndarray:
    """argmax over perm of Σ_i value[i, perm[i]] + TOLERANCE * max |value| * (number of units that stay)."""
    largest = max(float(value.max(initial=0)), -float(value.min(initial=0)))
    if largest == 0:
        return np.arange(len(value))
    cost = np.negative(value, dtype=np.float64, order="C")
    cost.flat[:: len(cost) + 1] -= TOLERANCE * largest
    perm: np.ndarray = linear_sum_assignment(cost)[1].astype(np.int64, copy=False)
    return perm


def _gathered(value: np.ndarray, perm: np.ndarray) -> float:
    return float(value[np.arange(len(perm)), perm].sum(dtype=np.float64))


# --- where groups meet side by side, or one meets itself ---


def _value(problem: _Problem, tables: Tables) -> float:
    return sum(float(_freeze(problem, term, [], tables).matrix) for term in problem.terms)


def _freeze(problem: _Problem, term: Term, kept: Sequence[int], tables: Tables) -> Term:
    """Holds the moving axes outside `kept` at their sources, and sums the axes that nothing kept depends on."""
    moving, axes = _moving(problem, term), len(term.groups)
    places = [*range(axes), *(axes + moving.index(k) for k in kept)]
    grid = np.ogrid[tuple(slice(term.matrix.shape[p]) for p in places)]
    index = list(grid[:axes])
    for k in moving:
        if k in kept:
            index.append(grid[axes + kept.index(k)])
        else:
            place = [grid[p] for p in (*_outer(problem, term, k), k)]
            index.append(tables[term.groups[k]][tuple(place)])
    staying = _with_outer(problem, term, kept)
    summed = tuple(k for k in range(axes) if k not in staying)
    matrix = term.matrix[tuple(index)].sum(axis=summed, dtype=np.float64)
    return Term(tuple(term.groups[k] for k in staying), matrix)


def _fix(problem: _Problem, fixed: Collection[str], tables: Tables) -> _Problem:
    """The problem that is left when the groups in `fixed` are held at `tables`."""
    groups = {name: deps for name, deps in problem.groups.items() if name not in fixed}
    terms = []
    for term in problem.terms:
        kept = [k for k in _moving(problem, term) if term.groups[k] not in fixed]
        if kept:
            terms.append(term if len(kept) == len(_moving(problem, term)) else _freeze(problem, term, kept, tables))
    return replace(problem, groups=groups, terms=terms, start={n: tables[n] for n in groups if n in tables})


def _linearise(problem: _Problem, tables: Tables) -> _Problem:
    """Replaces each term that meets a group twice by its tangent at `tables`: one chain of axes moves at a time."""
    terms = []
    for term in problem.terms:
        moving = _moving(problem, term)
        if len({term.groups[k] for k in moving}) == len(moving):
            terms.append(term)
            continue
        chains = [{x for x in _with_outer(problem, term, [k]) if x in moving} for k in moving]
        chains = [c for k, c in enumerate(chains) if not any(c < other for other in chains) and c not in chains[:k]]
        terms += [_freeze(problem, term, sorted(chain), tables) for chain in chains]
        if common := sorted(set.intersection(*chains)):
            counted = _freeze(problem, term, common, tables)
            terms.append(Term(counted.groups, (1 - len(chains)) * counted.matrix))
    return replace(problem, terms=terms)


def _scale(problem: _Problem) -> float:
    return max((float(np.abs(t.matrix).max(initial=0)) for t in problem.terms), default=0.0)


def _small(part: _Problem) -> str | None:
    """The smallest group without dependence, if trying all its elements is cheap."""
    sizes = [(part.sizes[name], name) for name, deps in part.groups.items() if not deps]
    size, name = min(sizes, default=(ENUMERATED + 1, None))
    return name if size <= ENUMERATED else None


def _enumerate(part: _Problem, name: str) -> _Found:
    """The best of all elements of one group, the rest solved for each."""
    size, bonus = part.sizes[name], TOLERANCE * _scale(part)
    best, score = None, -np.inf
    for element in itertools.permutations(range(size)):
        perm = np.array(element, dtype=np.int64)
        rest = _solve(_fix(part, [name], {**part.start, name: perm}))
        tables = {name: perm} | rest.tables
        value = _value(part, tables)
        credit = value + bonus * int((perm == np.arange(size)).sum())
        if best is None or credit > score:
            best, score = _Found(value, tables, rest.exact), credit
    assert best is not None
    return best


def _climb(part: _Problem) -> _Found:
    """Coordinate ascent over families of groups from several starts; ties go to the earlier, the identity first."""
    families, bonus = _families(part), TOLERANCE * _scale(part)
    best: _Found | None = None
    for first, tables in _starts(part, families):
        found = _ascend(part, families, first, tables, bonus)
        if best is None or found.value > best.value + bonus:
            best = found
    assert best is not None
    return best


def _ascend(part: _Problem, families: list[list[str]], first: int, tables: Tables, bonus: float) -> _Found:
    """Solves one family after the other with the rest held, until none of them improves the objective."""
    now, value, idle, turn = dict(tables), _value(part, tables), 0, first
    while idle < len(families):
        family = families[turn % len(families)]
        held = _fix(part, [name for name in part.groups if name not in family], now)
        candidate = now | _solve(_linearise(held, now)).tables
        reached = _value(part, candidate)
        if reached > value + bonus:
            now, value, idle = candidate, reached, 0
        else:
            idle += 1
        turn += 1
    return _Found(value, now, False)


def _families(part: _Problem) -> list[list[str]]:
    """Each group without a moving dependence, with those that depend on it alone; the rest one by one."""
    roots = [name for name, deps in part.groups.items() if not any(d in part.groups for d in deps)]
    above = {name: [d for d in deps if d in roots] for name, deps in part.groups.items()}
    families = [[root, *(name for name in part.groups if above[name] == [root])] for root in roots]
    return families + [[name] for name in part.groups if len(above[name]) > 1]


def _starts(part: _Problem, families: list[list[str]]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Tables to climb from, each with the family to solve first."""
    identity = _identity(part, part.groups)
    yield 0, identity
    if all(name in part.start for name in part.groups):
        yield 0, {name: part.start[name] for name in part.groups}
    free = [(part.sizes[name], k) for k, (name, *_) in enumerate(families) if not part.groups[name]]
    if free and len(part.groups) > 1:
        turn = min(free)[1]
        yield turn + 1, identity | _relax(part, families[turn][0])
    random = np.random.default_rng(0)
    for turn in range(RANDOM_STARTS):
        yield turn, {name: random.permuted(table, axis=-1) for name, table in identity.items()}


def _relax(part: _Problem, root: str) -> dict[str, np.ndarray]:
    """The best element of `root` if all other groups could choose anew at each of its indices: an exact problem."""
    groups = {name: deps if root in deps or name == root else (root, *deps) for name, deps in part.groups.items()}
    terms = [term for term in part.terms if term.groups.count(root) == 1]
    return {root: _solve(replace(part, groups=groups, terms=terms, start={})).tables[root]}


def _identity(problem: _Problem, names: Collection[str]) -> dict[str, np.ndarray]:
    shapes = {name: [problem.sizes[x] for x in (*problem.groups[name], name)] for name in names}
    return {name: np.broadcast_to(np.arange(shape[-1]), shape).copy() for name, shape in shapes.items()}
