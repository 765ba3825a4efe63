"""Exact nested assignment: the value of sending outer unit i to j is that of the best inner assignment of the pair."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from permgraph.assignment.flat import assign, assign_each
from permgraph.assignment.problem import Found, Problem, Solver, Term, moving_axes


def join(one: Found, other: Found) -> Found:
    """The results of two parts as one."""
    return Found(one.value + other.value, one.tables | other.tables, one.exact and other.exact)


def parts_of(problem: Problem) -> Iterator[Problem]:
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


def shared_axis(part: Problem) -> str | None:
    """A factor that no longer moves and that all groups depend on: each of its indices is a separate problem."""
    for name in next(iter(part.groups.values())):
        if (
            name not in part.groups
            and all(name in deps for deps in part.groups.values())
            and all(t.groups.count(name) == 1 for t in part.terms)
        ):
            return name
    return None


def root_of(part: Problem) -> str | None:
    """The group without dependence that all others depend on, if no term has it twice."""
    for name, deps in part.groups.items():
        if (
            not deps
            and all(name in other for key, other in part.groups.items() if key != name)
            and all(t.groups.count(name) <= 1 for t in part.terms)
        ):
            return name
    return None


def _at(problem: Problem, name: str, a: int, b: int | None) -> Problem:
    """The problem at index `a` of A's axis `name`, and `b` of B's where it moves."""
    terms = []
    for term in problem.terms:
        axis = term.groups.index(name)
        index: list[int | slice] = [slice(None)] * term.matrix.ndim
        index[axis] = a
        if b is not None:
            index[len(term.groups) + moving_axes(problem, term).index(axis)] = b
        terms.append(Term(term.groups[:axis] + term.groups[axis + 1 :], term.matrix[tuple(index)]))
    groups = {key: tuple(d for d in deps if d != name) for key, deps in problem.groups.items() if key != name}
    start = {
        key: table.take(a, problem.groups[key].index(name))
        for key, table in problem.start.items()
        if name in problem.groups.get(key, ())
    }
    return Problem(groups, terms, problem.sizes, start)


def _stack(problem: Problem, name: str, found: Sequence[Found]) -> dict[str, np.ndarray]:
    """Joins the tables found at every index of `name` into tables that depend on it."""
    inner = [key for key in problem.groups if key != name]
    return {key: np.stack([f.tables[key] for f in found], axis=problem.groups[key].index(name)) for key in inner}


def split(part: Problem, name: str, solve: Solver) -> Found:
    """One problem for each index of a factor that no longer moves."""
    found = [solve(_at(part, name, p, None)) for p in range(part.sizes[name])]
    return Found(sum(f.value for f in found), _stack(part, name, found), all(f.exact for f in found))


def nest(part: Problem, root: str, solve: Solver) -> Found:
    """value[i, j] = the root's own terms + the best inner value of block (i, j); then one assignment over i and j.

    A block is only solved when the best assignment, with unsolved blocks at upper bounds of their values, uses it. When
    all blocks that the best assignment uses are solved, it beats every other one even at their bounds.
    """
    size = part.sizes[root]
    own = _total([t.matrix for t in part.terms if t.groups == (root,)], size)
    if len(part.groups) == 1:
        perm = assign(own)
        return Found(_gathered(own, perm), {root: perm}, True)
    inner = replace(part, terms=[t for t in part.terms if t.groups != (root,)])
    value, found = own + sum(_bounds(inner, term, root) for term in inner.terms), dict[tuple[int, int], Found]()
    while True:
        perm = assign(value)
        chosen = list(enumerate(perm.tolist()))
        waiting = [block for block in chosen if block not in found]
        if not waiting:
            break
        solved = _leaves(inner, root, waiting) or [solve(_at(inner, root, *block)) for block in waiting]
        for (i, j), one in zip(waiting, solved, strict=True):
            found[i, j] = one
            value[i, j] = own[i, j] + one.value
    tables = {root: perm} | _stack(part, root, [found[block] for block in chosen])
    return Found(_gathered(value, perm), tables, all(one.exact for one in found.values()))


def _leaves(inner: Problem, root: str, blocks: Sequence[tuple[int, int]]) -> list[Found] | None:
    """All blocks at once, if the groups below the root depend only on it and no two occur in one term; else None.

    The same as `solve` of every `_at`, without its steps for each of the thousands of blocks of a large model.
    """
    leaves = {key: [t for t in inner.terms if t.groups == (root, key)] for key in inner.groups if key != root}
    if any(inner.groups[key] != (root,) for key in leaves) or sum(map(len, leaves.values())) < len(inner.terms):
        return None
    rows, columns = np.array(blocks).T
    found = [Found(0.0, {}, True)] * len(blocks)
    for key, terms in leaves.items():
        size = inner.sizes[key]
        parts = [term.matrix[rows, :, columns] for term in terms]
        values = _total(parts, size) if parts else np.zeros((len(blocks), size, size))
        for k, (value, perm) in enumerate(zip(values, assign_each(values), strict=True)):
            found[k] = join(found[k], Found(_gathered(value, perm), {key: perm}, True))
    return found


def _bounds(problem: Problem, term: Term, name: str) -> np.ndarray:
    """[i, j]: an upper bound of a term with index i of `name` sent to j, with the best source at every place."""
    axes, axis = len(term.groups), term.groups.index(name)
    here = axes + moving_axes(problem, term).index(axis)
    best = term.matrix.max(axis=tuple(k for k in range(axes, term.matrix.ndim) if k != here))
    found: np.ndarray = best.sum(axis=tuple(k for k in range(axes) if k != axis), dtype=np.float64)
    return found


def _total(matrices: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The sum in float64; a single matrix is passed on as it is, uncopied."""
    if not matrices:
        return np.zeros((size, size))
    total = matrices[0]
    for count, matrix in enumerate(matrices[1:]):
        total = np.add(total, matrix, dtype=np.float64, out=total if count else None)
    return total


def _gathered(value: np.ndarray, perm: np.ndarray) -> float:
    return float(value[np.arange(len(perm)), perm].sum(dtype=np.float64))
