"""Inner products of the units of A and of B at the sites where a family acts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import rows_of, slabs_of
from permgraph.matching.kinds.places import further_sign
from permgraph.matching.kinds.terms import Cross
from permgraph.matching.weights.effort import SIZES
from permgraph.matching.weights.polynomial import by_units
from permgraph.matching.weights.sites import Action, Site
from permgraph.symmetry.elements.parts import Matrix


def cross(
    site: Site, action: Action, states: Sequence[Mapping[str, Tensor]], dtype: torch.dtype, signs: Set[str]
) -> Cross:
    """Inner products of the units of an action, A against B, over all else at the site; `signs`: the further ones."""
    left, right = sides(site, action, states, dtype)
    matrix = (left @ right.T).cpu().numpy()
    return Cross(action.axes, matrix.reshape(site.sizes(action) * 2), *signs_of(site, action, signs))


def sides(site: Site, action: Action, states: Sequence[Mapping[str, Tensor]], dtype: torch.dtype) -> list[Tensor]:
    """Of each model, [units of an action, all else at the site]."""
    span, found = site.spans[site.actions.index(action)], []
    for state in states:
        value = state[site.name] if site.rows is None else rows_of(state, site.name, site.rows)
        found.append(by_units(site.tensor(value).to(dtype), span))
    return found


def signs_of(site: Site, action: Action, signs: Set[str]) -> tuple[frozenset[str], dict[str, str]]:
    """The groups of an action whose sign reaches the site, and the further sign of a group's units there."""
    odd, further = set[str](), dict[str, str]()
    for name, leaves in zip(action.axes, action.units, strict=True):
        for move in site.cell.moves:
            if move.group == name and move.leaves == leaves:
                odd |= {name} if move.power % 2 else set()
                further |= {name: other} if (other := further_sign(site.cell, move, signs)) else {}
    return frozenset(odd), further


def joined(terms: Iterable[Cross]) -> list[Cross]:
    """Terms of the same form added up, each as soon as it is computed."""
    found: dict[Any, Cross] = {}
    for term in terms:
        key = term.names, term.odd, tuple(sorted((term.further or {}).items()))
        if key in found:
            np.add(found[key].matrix, term.matrix, out=found[key].matrix)
        else:
            found[key] = term
    return list(found.values())


def inner(name: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """<A, B> of one tensor, a part of it read at a time."""
    return sum(dot(one, other) for one, other in zip(slabs_of(a, name), slabs_of(b, name), strict=True))


def inner_and_squares(name: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> tuple[float, float, float]:
    """<A, B>, <A, A> and <B, B> of one tensor; each part is read once."""
    sums = np.zeros(3)
    for one, other in zip(slabs_of(a, name), slabs_of(b, name), strict=True):
        sums += dot(one, other), dot(one, one), dot(other, other)
    return float(sums[0]), float(sums[1]), float(sums[2])


def dot(a: Tensor, b: Tensor) -> float:
    """<a, b> in float64, some elements at a time."""
    sides = (x.reshape(-1).chunk(-(-x.numel() // SIZES.slab) or 1) for x in (a, b))
    return sum(float(torch.dot(x.double(), y.double())) for x, y in zip(*sides, strict=True))


def value_of(terms: Sequence[Cross], rotation: Matrix | None = None) -> float | None:
    """Σ <A, B> over sites where a family acts once, B rotated or as it is; None where a further sign reaches them."""
    if any(term.further for term in terms):
        return None
    squares = [term.matrix.reshape((math.isqrt(term.matrix.size),) * 2) for term in terms]
    if rotation is None:
        return sum(float(np.trace(square, dtype=np.float64)) for square in squares)
    return sum(float(np.sum(rotation.matrix * square)) for square in squares)


def is_once(site: Site, names: Set[str]) -> bool:
    """Whether these groups act on only one axis, so that the site determines them without another unknown."""
    return sum(not names.isdisjoint(action.axes) for action in site.actions) == 1


def without(element: Mapping[str, Any], names: Set[str]) -> dict[str, Any]:
    """The parts of an element that are of other groups."""
    return {name: part for name, part in element.items() if name not in names}
