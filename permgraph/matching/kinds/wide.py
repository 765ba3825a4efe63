"""The best element of a nested family too wide for a matrix of all its units: outer units first, then pair by pair.

As in `permgraph.matching.weights.wide`, for every kind of the units inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.matrices import Numbers
from permgraph.assignment.flat import assign
from permgraph.matching.kinds.crosses import cross, sides, signs_of
from permgraph.matching.kinds.family import stack
from permgraph.matching.kinds.one import Similarity, best
from permgraph.matching.kinds.terms import Cross
from permgraph.matching.weights.sites import Family, Site
from permgraph.matching.weights.wide import estimated, similarity, value
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup


@dataclass(frozen=True)
class Inner:
    """A and the moved B where a group inside acts, [outer · inner, rest]; whether its sign, or a further one, does."""

    a: Tensor
    b: Tensor
    odd: bool
    further: str


def solve_wide(
    family: Family, sites: Sequence[Site], states: Sequence[Mapping[str, Tensor]], dtype: torch.dtype, signs: Set[str]
) -> tuple[float, dict[str, Any]]:
    """The part of each group, and what it gains in Σ <A, element B> over the sites; the rest as for `cross`."""
    own, inner = _terms({group.name for group in family}, sites, states, dtype, signs)
    outer = next(group.depends_sizes[0] for group in family if group.depends_on)
    total = np.sum([term.matrix for term in own], axis=0) if own else np.zeros((outer, outer))
    perm, found = np.arange(outer), dict[str, Any]()
    for root in (group for group in family if not group.depends_on):
        perm = found[root.name] = assign(sum((_estimated(terms, outer) for terms in inner.values()), total))
    gain = float(total[np.arange(outer), perm].sum() - np.trace(total))
    for group in (group for group in family if group.depends_on):
        terms = inner.get(group.name, [])
        parts, values = zip(*_each(group, terms, outer, perm), strict=True)
        found[group.name] = stack(parts, 0)
        gain += sum(values) - sum(value([(term.a, term.b)], np.arange(len(term.a))) for term in terms)
    return gain, found


def _terms(
    names: Set[str], sites: Sequence[Site], states: Sequence[Mapping[str, Tensor]], dtype: torch.dtype, signs: Set[str]
) -> tuple[list[Cross], dict[str, list[Inner]]]:
    """The similarities of outer units, and the two sides of those inside by group."""
    own, inner = list[Cross](), dict[str, list[Inner]]()
    for site in sites:
        for action in site.actions:
            name = action.axes[-1]
            if name in names and len(action.axes) == 1:
                own.append(cross(site, action, states, dtype, signs))
            elif name in names:
                odd, further = signs_of(site, action, signs)
                a, b = sides(site, action, states, dtype)
                inner.setdefault(name, []).append(Inner(a, b, name in odd, further.get(name, "")))
    return own, inner


def _estimated(terms: Sequence[Inner], outer: int) -> Numbers:
    """[i, j]: about what the units of outer unit i are worth at those of j; signs cancel in XᵀX of places that have it.

    Places where a further sign acts do not count.
    """
    alike = [[(term.a, term.b) for term in terms if term.odd is odd and not term.further] for odd in (False, True)]
    return sum((estimated(pairs, outer) for pairs in alike if pairs), np.zeros((outer, outer)))


def _each(group: PermutationGroup, terms: Sequence[Inner], outer: int, perm: Index) -> Iterator[tuple[Any, float]]:
    """The part and the value at each outer unit of A, sent to that of B."""
    for i, j in enumerate(perm.tolist()):
        given = [Similarity(similarity([(t.a, t.b)], outer, i, j), t.odd, t.further) for t in terms]
        part, worth = best(group.kind, group.size, given)
        yield part, float(worth)
