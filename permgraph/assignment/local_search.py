"""Local search for terms whose groups do not nest, or that have a group twice: enumeration, or coordinate ascent."""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np

from permgraph.assignment.costs import TOLERANCE
from permgraph.assignment.problem import Found, Problem, Solver, Tables, Term, freeze, moving_axes, value_of, with_outer

ENUMERATED = 4
"""The largest group whose elements are all tried (4! = 24) in place of coordinate ascent."""

RANDOM_STARTS = 4


def _fix(problem: Problem, fixed: Collection[str], tables: Tables) -> Problem:
    """The remaining problem when the groups in `fixed` are held at `tables`."""
    groups = {name: deps for name, deps in problem.groups.items() if name not in fixed}
    terms = []
    for term in problem.terms:
        kept = [k for k in moving_axes(problem, term) if term.groups[k] not in fixed]
        if kept:
            terms.append(term if len(kept) == len(moving_axes(problem, term)) else freeze(problem, term, kept, tables))
    return replace(problem, groups=groups, terms=terms, start={n: tables[n] for n in groups if n in tables})


def _linearise(problem: Problem, tables: Tables) -> Problem:
    """Replaces each term that has a group twice by its tangent at `tables`: one chain of axes moves at a time."""
    terms = []
    for term in problem.terms:
        moving = moving_axes(problem, term)
        if len({term.groups[k] for k in moving}) == len(moving):
            terms.append(term)
            continue
        chains = [{x for x in with_outer(problem, term, [k]) if x in moving} for k in moving]
        chains = [c for k, c in enumerate(chains) if not any(c < other for other in chains) and c not in chains[:k]]
        terms += [freeze(problem, term, sorted(chain), tables) for chain in chains]
        if common := sorted(set.intersection(*chains)):
            counted = freeze(problem, term, common, tables)
            terms.append(Term(counted.groups, (1 - len(chains)) * counted.matrix))
    return replace(problem, terms=terms)


def _scale(problem: Problem) -> float:
    return max((float(np.abs(t.matrix).max(initial=0)) for t in problem.terms), default=0.0)


def small_group(part: Problem) -> str | None:
    """The smallest group without dependence, if trying all its elements is cheap."""
    sizes = [(part.sizes[name], name) for name, deps in part.groups.items() if not deps]
    size, name = min(sizes, default=(ENUMERATED + 1, None))
    return name if size <= ENUMERATED else None


def enumerated(part: Problem, name: str, solve: Solver) -> Found:
    """The best of all elements of one group, the rest solved for each."""
    size, bonus = part.sizes[name], TOLERANCE * _scale(part)
    best, score = None, -np.inf
    for element in itertools.permutations(range(size)):
        perm = np.array(element, dtype=np.int64)
        rest = solve(_fix(part, [name], {**part.start, name: perm}))
        tables = {name: perm} | rest.tables
        value = value_of(part, tables)
        credit = value + bonus * int((perm == np.arange(size)).sum())
        if best is None or credit > score:
            best, score = Found(value, tables, rest.exact), credit
    assert best is not None
    return best


def climbed(part: Problem, solve: Solver) -> Found:
    """Coordinate ascent over families of groups from several starts; ties go to the earlier, the identity first."""
    families, bonus = _families(part), TOLERANCE * _scale(part)
    best: Found | None = None
    for first, tables in _starts(part, families, solve):
        found = _ascend(part, families, (first, tables), bonus, solve)
        if best is None or found.value > best.value + bonus:
            best = found
    assert best is not None
    return best


def _ascend(part: Problem, families: list[list[str]], start: tuple[int, Tables], bonus: float, solve: Solver) -> Found:
    """Solves the families in turn with all others held, until none improves the objective."""
    turn, tables = start
    now, value, idle = dict(tables), value_of(part, tables), 0
    while idle < len(families):
        family = families[turn % len(families)]
        held = _fix(part, [name for name in part.groups if name not in family], now)
        candidate = now | solve(_linearise(held, now)).tables
        reached = value_of(part, candidate)
        if reached > value + bonus:
            now, value, idle = candidate, reached, 0
        else:
            idle += 1
        turn += 1
    return Found(value, now, False)


def _families(part: Problem) -> list[list[str]]:
    """Each group without a moving dependence, with the groups that depend only on it; all others separately."""
    roots = [name for name, deps in part.groups.items() if not any(d in part.groups for d in deps)]
    above = {name: [d for d in deps if d in roots] for name, deps in part.groups.items()}
    families = [[root, *(name for name in part.groups if above[name] == [root])] for root in roots]
    return families + [[name] for name in part.groups if len(above[name]) > 1]


def _starts(part: Problem, families: list[list[str]], solve: Solver) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Tables to climb from, each with the family to solve first."""
    identity = _identity(part, part.groups)
    yield 0, identity
    if all(name in part.start for name in part.groups):
        yield 0, {name: part.start[name] for name in part.groups}
    free = [(part.sizes[name], k) for k, (name, *_) in enumerate(families) if not part.groups[name]]
    if free and len(part.groups) > 1:
        turn = min(free)[1]
        yield turn + 1, identity | _relax(part, families[turn][0], solve)
    random = np.random.default_rng(0)
    for turn in range(RANDOM_STARTS):
        yield turn, {name: random.permuted(table, axis=-1) for name, table in identity.items()}


def _relax(part: Problem, root: str, solve: Solver) -> dict[str, np.ndarray]:
    """The best element of `root` if all other groups could choose anew at each of its indices: an exact problem."""
    groups = {name: deps if root in deps or name == root else (root, *deps) for name, deps in part.groups.items()}
    terms = [term for term in part.terms if term.groups.count(root) == 1]
    return {root: solve(replace(part, groups=groups, terms=terms, start={})).tables[root]}


def _identity(problem: Problem, names: Collection[str]) -> dict[str, np.ndarray]:
    shapes = {name: [problem.sizes[x] for x in (*problem.groups[name], name)] for name in names}
    return {name: np.broadcast_to(np.arange(shape[-1]), shape).copy() for name, shape in shapes.items()}
