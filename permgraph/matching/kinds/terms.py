"""Inner products of units of A with units of B where a family acts, and what is left of them at known elements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from permgraph.algebra.matrices import Numbers
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup


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


def in_rows(node: Node, term: Cross, outer: Node | None = None) -> Cross:
    """[outer of A, outer of B, pinned factors..., units of A, units of B]: A's index of a pinned factor is B's."""
    half, names = len(term.names), term.names
    apart = [names.index(one.name) for one in (outer, node) if one is not None]
    labels = [*range(half), *(half + k if k in apart else k for k in range(half))]
    own, keys = apart[-1], [names.index(name) for name in node.depends_on if name in names]
    first = [label for k in apart[:-1] for label in (k, half + k)]
    matrix: Any = term.matrix
    matrix = np.einsum(matrix, labels, [*first, *keys, own, half + own])
    lead = matrix.shape[: len(first)]
    sizes = [size if name in names else 1 for name, size in zip(node.depends_on, node.depends_sizes, strict=True)]
    matrix = np.broadcast_to(matrix.reshape(*lead, *sizes, node.size, node.size), (*lead, *node.shape, node.size))
    return replace(term, matrix=matrix)


def nodes_of(groups: Iterable[PermutationGroup]) -> list[Node]:
    """The groups with all that they depend on."""
    return [Node(g.name, g.kind, g.size, g.depends_on, g.depends_sizes) for g in groups]


def of_one(
    group: PermutationGroup, groups: Sequence[PermutationGroup], terms: Iterable[Cross], found: Mapping[str, Any]
) -> Numbers:
    """[rows..., units, units]: the terms of one group added up, the others as found or, without that, as they are."""
    (node,), nodes = nodes_of([group]), nodes_of(groups)
    total = np.zeros((*node.shape, node.size))
    for term in terms:
        if group.name in term.names:
            held = {name: found[name] for name in term.names if name in found and name != group.name}
            one = fixed(term, held, nodes, group.depends_on)
            for name in set(one.names) - {group.name, *group.depends_on}:
                one = one.summed(name)
            total = total + in_rows(node, one).matrix
    return total


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
    """The value of a term at an element, with the best further signs of its units."""
    further = [name for name in term.further or {} if name in now]
    found = diagonal(fixed(term, now, nodes, further))
    return float((np.abs(found) if further else found).sum())


def signed_as(term: Cross, now: Mapping[str, Any], nodes: Sequence[Node], free: Set[str]) -> Cross:
    """The term with the further signs that are best at an element, but for those of the units of `free` groups."""
    for name in term.further or {}:
        if name in now and name not in free:
            signs = np.where(diagonal(fixed(term, now, nodes, [name])) < 0, -1.0, 1.0)
            shape = [1] * term.matrix.ndim
            shape[term.names.index(name)] = len(signs)
            term = replace(term, matrix=term.matrix * signs.reshape(shape))
    return term


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
