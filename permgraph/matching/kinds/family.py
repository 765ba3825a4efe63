"""The best element of a family of nested groups: the value of matching two outer units is that of the units in them.

As in `permgraph.assignment`, with a solver for each kind. Exact if the groups below a root depend only on it and no two
of them occur in one term; if two do, a small one is enumerated, else they are solved in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.one import Similarity, best, nuclear
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup

ENUMERATED = 4
ROUNDS = 4  # of groups that meet side by side

Found = tuple[float, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Cross:
    """Inner products of places of A with places of B: one axis a name for A, then one a name for B.

    A name that is no group's is a pinned factor. `odd` are the groups whose sign reaches the place, `further` maps a
    group to a further sign of its units there. `weight` is a factor that the matrix has.
    """

    names: tuple[str, ...]
    matrix: Numbers
    odd: frozenset[str] = frozenset()
    further: Mapping[str, str] | None = None
    weight: float = 1.0

    def at(self, name: str, a: int, b: int) -> Cross:
        """Index `a` of A's axis of a name, and `b` of B's, which are gone then."""
        k, half = self.names.index(name), len(self.names)
        index: list[int | slice] = [slice(None)] * (2 * half)
        index[k], index[k + half] = a, b
        return replace(self, names=self.names[:k] + self.names[k + 1 :], matrix=self.matrix[tuple(index)])

    def summed(self, name: str) -> Cross:
        """The sum over an axis at which A and B are at the same index."""
        k, half = self.names.index(name), len(self.names)
        matrix = np.trace(self.matrix, axis1=k, axis2=k + half)
        return replace(self, names=self.names[:k] + self.names[k + 1 :], matrix=matrix)


@dataclass(frozen=True)
class Node:
    """A group in the remaining part of a family: its kind, its size, and the groups that it still depends on."""

    name: str
    kind: str
    size: int
    depends_on: tuple[str, ...]
    depends_sizes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an index table."""
        return (*self.depends_sizes, self.size)

    def without(self, name: str) -> Node:
        """The same at one index of a name."""
        kept = [k for k, other in enumerate(self.depends_on) if other != name]
        names, sizes = tuple(self.depends_on[k] for k in kept), tuple(self.depends_sizes[k] for k in kept)
        return replace(self, depends_on=names, depends_sizes=sizes)


def solve(groups: Sequence[PermutationGroup], terms: Sequence[Cross]) -> Found:
    """The value Σ over terms <A, element B>, and the part of each group."""
    return _solve(nodes_of(groups), list(terms))


def nodes_of(groups: Sequence[PermutationGroup]) -> list[Node]:
    """The groups with all that they depend on."""
    return [Node(g.name, g.kind, g.size, g.depends_on, g.depends_sizes) for g in groups]


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
    shared = next((name for name in nodes[0].depends_on if name not in names), None)
    if shared is not None and all(shared in node.depends_on for node in nodes):
        return _each(nodes, terms, shared)
    if len(nodes) == 1 and not nodes[0].depends_on:
        return _alone(nodes[0], terms)
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
    part, value = best(node.kind, node.size, [_similarity(node, term) for term in terms])
    return float(value), {node.name: part}


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
    own = [term for term in terms if term.names == (root.name,)]
    below = [term for term in terms if term.names != (root.name,)]
    inside = [child.without(root.name) for child in children]
    values, parts_at = _blocks(root, inside, below)
    further = Similarity(values, odd=False)
    part, value = best(root.kind, root.size, [*(_similarity(root, term) for term in own), further])
    index = parts.index_of(part)
    chosen = [parts_at(a, int(b)) for a, b in enumerate(index)]
    found = {c.name: stack([one[c.name] for one in chosen], c.depends_on.index(root.name)) for c in children}
    return float(value), {root.name: part, **found}


def _blocks(root: Node, inside: list[Node], terms: list[Cross]) -> tuple[Numbers, Callable[[int, int], dict[str, Any]]]:
    """For each pair of outer units the best match of the units in them: its value and its parts; for all pairs at once
    if no two groups in them occur in one term.
    """
    units = range(root.size)
    if any(node.depends_on for node in inside) or any(len(term.names) != 2 for term in terms):
        each = [[_solve(inside, [term.at(root.name, a, b) for term in terms]) for b in units] for a in units]
        return np.array([[value for value, _ in row] for row in each]), lambda a, b: each[a][b][1]
    if not inside:
        return np.zeros((root.size, root.size)), lambda a, b: {}
    solved = {node.name: _all_pairs(root, node, [t for t in terms if node.name in t.names]) for node in inside}
    values = sum(values for _, values in solved.values())
    return np.asarray(values), lambda a, b: {name: part(a, b) for name, (part, _) in solved.items()}


def _all_pairs(root: Node, node: Node, terms: Sequence[Cross]) -> tuple[Callable[[int, int], Any], Numbers]:
    """The best part of a group below a root for each pair of its units, and their values."""
    here = []
    for term in terms:
        k = term.names.index(root.name)
        here.append(_similarity(node, replace(term, matrix=np.moveaxis(term.matrix, (k, k + 2), (0, 1)))))
    if not here:
        here = [Similarity(np.zeros((root.size, root.size, node.size, node.size)))]
    if Kind(node.kind) in (Kind.ORTHOGONAL, Kind.INVERTIBLE):
        total = np.sum([one.matrix for one in here], axis=0)
        return lambda a, b: best(node.kind, node.size, [Similarity(total[a, b])])[0], nuclear(total)
    found, values = best(node.kind, node.size, here)
    return lambda a, b: at(found, (a, b)), values


def _side_by_side(nodes: list[Node], terms: list[Cross]) -> Found:
    """Groups that occur in one term and do not nest: a small one is enumerated, else they are solved in turn."""
    needed = {name for node in nodes for name in node.depends_on}
    small = [n for n in nodes if n.size <= ENUMERATED and not (n.depends_on or n.name in needed or Kind(n.kind).mixes)]
    if small and len(nodes) > 1:
        tried = [_held(small[0], nodes, terms, order) for order in permutations(range(small[0].size))]
        return max(tried, key=lambda found: found[0])
    now = {node.name: parts.identity(node.kind, node.shape) for node in nodes}
    value = -np.inf
    for _ in range(ROUNDS):
        for node in nodes:
            held = {name: part for name, part in now.items() if name != node.name}
            here = [fixed(term, held, nodes, node.depends_on) for term in terms if node.name in term.names]
            now |= _solve([node], here)[1]
        reached = sum(worth(term, now, nodes) for term in terms)
        if reached <= value + 1e-9 * abs(value):
            break
        value = reached
    return float(value), now


def _held(node: Node, nodes: list[Node], terms: list[Cross], order: Sequence[int]) -> Found:
    index = np.array(order)
    held = {node.name: index if node.kind == "permutation" else Monomial(index, np.ones(node.size))}
    own = [term for term in terms if set(term.names) == {node.name}]
    here = [fixed(term, held, nodes, ()) for term in terms if set(term.names) != {node.name}]
    value, found = _solve([other for other in nodes if other != node], here)
    return value + sum(worth(term, held, nodes) for term in own), found | held


def fixed(term: Cross, held: Mapping[str, Any], nodes: Sequence[Node], kept: Sequence[str]) -> Cross:
    """The term with some groups held at their parts: B's places are moved, and summed over where A's and B's agree.

    The axes in `kept` stay, for what depends on them: A's and B's index of them is the same from now on.
    """
    depends = {node.name: node.depends_on for node in nodes}
    for name in reversed(term.names):
        if name in held:
            keys = [key for key in depends[name] if key in term.names]
            term = _moved(term, name, held[name], keys)
            term = term if name in kept else term.summed(name)
    return term


def _moved(term: Cross, name: str, part: Any, keys: Sequence[str]) -> Cross:
    """B's axis of a group moved: Σ over b of part[keys, new, b] matrix[…, b, …], with the keys at A's index."""
    half, k = len(term.names), term.names.index(name)
    dense = dense_of(part, signed=name in term.odd)
    labels = list(range(2 * half))
    rows, new = [term.names.index(key) for key in keys], 2 * half
    out = [new if label == k + half else label for label in labels]
    matrix: Any = np.einsum(term.matrix, labels, dense, [*rows, new, k + half], out, optimize=True)  # type: ignore[arg-type]
    return replace(term, matrix=matrix)


def worth(term: Cross, now: Mapping[str, Any], nodes: Sequence[Node]) -> float:
    """The value of a term at an element."""
    return float(diagonal(fixed(term, now, nodes, ())).sum())


def diagonal(term: Cross) -> Numbers:
    """The entries at which A's index is B's, an axis a name."""
    matrix: Any = term.matrix
    axes = list(range(len(term.names)))
    found: Numbers = np.einsum(matrix, axes * 2, axes)
    return found


def dense_of(part: Any, *, signed: bool = True) -> Numbers:
    """A part as matrices [..., n, n]."""
    if isinstance(part, Matrix):
        return np.asarray(part.matrix)
    index = parts.index_of(part)
    eye = np.eye(index.shape[-1])[index]
    return eye * np.sign(part.scale)[..., None] if isinstance(part, Monomial) and signed else eye


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
