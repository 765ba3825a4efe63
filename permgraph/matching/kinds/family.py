"""The best element of a family of nested groups: the value of matching two outer units is that of the units in them.

As in `permgraph.assignment`, with a solver for each kind. Exact if the groups below a root depend only on it and no two
of them occur in one term; if two do, a small one is enumerated, else they are solved in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations, product
from math import factorial, inf
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.crosses import without
from permgraph.matching.kinds.one import Similarity, best, nuclear
from permgraph.matching.kinds.terms import Cross, Node, fixed, in_rows, nodes_of, signed_as, worth
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup

ENUMERATED = 48  # elements: all of 4 units, and with signs of 3
ROUNDS = 4  # of groups that meet side by side

Found = tuple[float, dict[str, Any]]


def solve(groups: Sequence[PermutationGroup], terms: Sequence[Cross]) -> Found:
    """The value Σ over terms <A, element B>, and the part of each group."""
    return _solve(nodes_of(groups), list(terms))


def _solve(nodes: list[Node], terms: list[Cross]) -> Found:
    value, found = 0.0, dict[str, Any]()
    for members, here in _components(nodes, terms):
        one = _component(members, here)
        value, found = value + one[0], found | one[1]
    return value, found


def _components(nodes: list[Node], terms: list[Cross]) -> Iterator[tuple[list[Node], list[Cross]]]:
    label = {node.name: node.name for node in nodes}
    ties = [[node.name, *node.depends_on] for node in nodes] + [list(term.names) for term in terms]
    for tie in ties:
        marks = {label[name] for name in tie if name in label}
        first = next((label[name] for name in tie if name in label), "")
        label = {name: first if mark in marks else mark for name, mark in label.items()}
    for mark in dict.fromkeys(label.values()):
        members = [node for node in nodes if label[node.name] == mark]
        names = {node.name for node in members}
        yield members, [term for term in terms if names.intersection(term.names)]


def _component(nodes: list[Node], terms: list[Cross]) -> Found:
    names = {node.name for node in nodes}
    needed = {name for node in nodes for name in node.depends_on}
    terms = [_without_pinned(term, names | needed) for term in terms]
    if len(nodes) == 1:
        return _alone(nodes[0], terms)
    shared = next((name for name in nodes[0].depends_on if name not in names), None)
    if shared is not None and all(shared in node.depends_on for node in nodes):
        return _each(nodes, terms, shared)
    root = next((n for n in nodes if not n.depends_on and all(n.name in o.depends_on for o in nodes if o != n)), None)
    if root is not None:
        return _nested(root, [node for node in nodes if node != root], terms)
    return _side_by_side(nodes, terms)


def _without_pinned(term: Cross, needed: set[str]) -> Cross:
    for name in term.names:
        if name not in needed:
            term = term.summed(name)
    return term


def _alone(node: Node, terms: Sequence[Cross]) -> Found:
    """One group, which may depend on pinned factors: all their indices at once."""
    part, values = best(node.kind, node.size, _of_rows(node, terms))
    return float(values.sum()), {node.name: part}


def _of_rows(node: Node, terms: Sequence[Cross], outer: Node | None = None) -> list[Similarity]:
    """The similarities of a group for each pair of outer units, and each index of the pinned factors."""
    lead = () if outer is None else (outer.size, outer.size)
    nothing = Similarity(np.zeros((*lead, *node.shape, node.size)))
    return [_similarity(node, in_rows(node, term, outer)) for term in terms] or [nothing]


def _similarity(node: Node, term: Cross) -> Similarity:
    return Similarity(term.matrix, node.name in term.odd, (term.further or {}).get(node.name, ""))


def _each(nodes: list[Node], terms: list[Cross], shared: str) -> Found:
    """A pinned factor that all groups depend on: one problem for each of its indices."""
    where = nodes[0].depends_on.index(shared)
    solved = []
    for k in range(nodes[0].depends_sizes[where]):
        here = [term.at(shared, k, k) if shared in term.names else term for term in terms]
        solved.append(_solve([node.without(shared) for node in nodes], here))
    found = {n.name: stack([one[n.name] for _, one in solved], n.depends_on.index(shared)) for n in nodes}
    return sum(value for value, _ in solved), found


def _nested(root: Node, children: list[Node], terms: list[Cross]) -> Found:
    """Match outer units by the value of the units in them and their own."""
    names = {child.name for child in children}
    own = [_without_pinned(term, {root.name}) for term in terms if names.isdisjoint(term.names)]
    below = [term for term in terms if not names.isdisjoint(term.names)]
    blocks = [_block(root, *one) for one in _components([child.without(root.name) for child in children], below)]
    further = [Similarity(values, odd=False) for values, _ in blocks]
    part, value = best(root.kind, root.size, [*(_similarity(root, term) for term in own), *further])
    index = parts.index_of(part)
    chosen = [{n: p for _, parts_at in blocks for n, p in parts_at(a, int(b)).items()} for a, b in enumerate(index)]
    found = {c.name: stack([one[c.name] for one in chosen], c.depends_on.index(root.name)) for c in children}
    return float(value), {root.name: part, **found}


def _block(root: Node, inside: list[Node], terms: list[Cross]) -> tuple[Numbers, Callable[[int, int], dict[str, Any]]]:
    """For each pair of outer units the best match of the units in them: its value and its parts; for all pairs at once
    if it is one group, which depends on pinned factors alone.
    """
    node = inside[0]
    if len(inside) == 1:
        needed = {root.name, node.name, *node.depends_on}
        return _all_pairs(root, node, [_without_pinned(term, needed) for term in terms])
    units = range(root.size)
    each = [[_solve(inside, [term.at(root.name, a, b) for term in terms]) for b in units] for a in units]
    return np.array([[value for value, _ in row] for row in each]), lambda a, b: each[a][b][1]


def _all_pairs(root: Node, node: Node, terms: Sequence[Cross]) -> tuple[Numbers, Callable[[int, int], dict[str, Any]]]:
    """The best part of a group below a root for each pair of its units, and their values."""
    here = _of_rows(node, terms, root)
    if Kind(node.kind) in (Kind.ORTHOGONAL, Kind.INVERTIBLE):  # their values need no parts
        total = np.sum([one.matrix for one in here], axis=0)
        values = nuclear(total)

        def part(a: int, b: int) -> Any:
            return best(node.kind, node.size, [Similarity(total[a, b])])[0]

    else:
        found, values = best(node.kind, node.size, here)

        def part(a: int, b: int) -> Any:
            return at(found, (a, b))

    return values.sum(tuple(range(2, values.ndim))), lambda a, b: {node.name: part(a, b)}


def _side_by_side(nodes: list[Node], terms: list[Cross]) -> Found:
    """Groups that occur in one term and do not nest: a small one is enumerated, else they are solved in turn."""
    needed = {name for node in nodes for name in node.depends_on}
    small = [n for n in nodes if _count(n) <= ENUMERATED and not (n.depends_on or n.name in needed)]
    if small and len(nodes) > 1:
        first = min(small, key=_count)
        tried = [_held(first, nodes, terms, *one) for one in _elements(first)]
        return max(tried, key=lambda found: found[0])
    together = _together(nodes)
    value, found = -np.inf, _begun(together, nodes, terms)
    for _ in range(ROUNDS):
        now = found
        for members in together:
            names = {node.name for node in members}
            here = [signed_as(term, now, nodes, names) for term in terms if not names.isdisjoint(term.names)]
            now = now | _solve(members, _held_at(here, without(now, names), nodes, members))[1]
        reached = sum(worth(term, now, nodes) for term in terms)
        if reached <= value + 1e-9 * abs(value):
            break
        value, found = reached, now
    return float(value), found


def _together(nodes: Sequence[Node]) -> list[list[Node]]:
    """Each group that depends on none with those that depend on it alone, each other one by itself."""
    names = {node.name for node in nodes}
    above = {node.name: names.intersection(node.depends_on) for node in nodes}
    roots = [[n, *(o for o in nodes if above[o.name] == {n.name})] for n in nodes if not above[n.name]]
    nested = {node.name for members in roots for node in members}
    return [*roots, *([node] for node in nodes if node.name not in nested)]


def _begun(together: Sequence[list[Node]], nodes: Sequence[Node], terms: Sequence[Cross]) -> dict[str, Any]:
    """Groups from the terms in which no unknown ones occur; next come those with the largest share of them."""
    left, found = list(together), dict[str, Any]()
    while left:
        usable, shares = list[list[Cross]](), list[float]()
        for members in left:
            names = {node.name for node in members}
            here = [term for term in terms if not names.isdisjoint(term.names)]
            unknown = {node.name for others in left if others is not members for node in others}
            usable.append([term for term in here if unknown.isdisjoint(term.names)])
            whole, known = (sum(np.abs(t.matrix).sum() for t in some) for some in (here, usable[-1]))
            shares.append(float(known / whole) if whole else 0.0)
        k = int(np.argmax(shares))
        members = left.pop(k)
        found |= _solve(members, _held_at(usable[k], found, nodes, members))[1]
    return found


def _held_at(
    terms: Sequence[Cross], held: Mapping[str, Any], nodes: Sequence[Node], members: Sequence[Node]
) -> list[Cross]:
    """The terms with others held; the axes of those that members depend on stay."""
    kept = [key for node in members for key in node.depends_on]
    return [fixed(term, held, nodes, kept) for term in terms]


def _count(node: Node) -> float:
    """How many elements a group has, but for scales."""
    kind = Kind(node.kind)
    return inf if kind.mixes else factorial(node.size) * (2**node.size if kind.has_signs else 1)


def _elements(node: Node) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
    """All of them, as orders and signs."""
    yield from product(
        permutations(range(node.size)), product((1.0, -1.0) if Kind(node.kind).has_signs else (1.0,), repeat=node.size)
    )


def _held(node: Node, nodes: list[Node], terms: list[Cross], order: Sequence[int], signs: Sequence[float]) -> Found:
    index = np.array(order)
    held = {node.name: index if node.kind == "permutation" else Monomial(index, np.array(signs))}
    own = [term for term in terms if set(term.names) == {node.name}]
    here = [fixed(term, held, nodes, ()) for term in terms if set(term.names) != {node.name}]
    value, found = _solve([other for other in nodes if other != node], here)
    return value + sum(worth(term, held, nodes) for term in own), found | held


def at(part: Any, where: tuple[int, ...]) -> Any:
    """One row of a part."""
    if isinstance(part, Matrix):
        return Matrix(part.matrix[where], part.orthogonal)
    return Monomial(part.index[where], part.scale[where]) if isinstance(part, Monomial) else part[where]


def stack(rows: Sequence[Any], axis: int) -> Any:
    """Parts at the indices of an axis, put together."""
    if isinstance(rows[0], Matrix):
        return Matrix(np.stack([row.matrix for row in rows], axis), all(row.orthogonal for row in rows))
    if isinstance(rows[0], Monomial):
        return Monomial(np.stack([row.index for row in rows], axis), np.stack([row.scale for row in rows], axis))
    return np.stack(rows, axis)
