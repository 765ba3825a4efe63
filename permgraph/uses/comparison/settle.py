"""The last steps to the element that moves B onto A: least squares for what is continuous, rounding for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.errors import SpecMismatchError
from permgraph.matching.kinds.places import Place, places
from permgraph.symmetry.elements.parts import Matrix, Monomial, problem
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations, followed
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.canonical.form import endless, form, rounding
from permgraph.uses.comparison.joint import jointly

SWEEPS = 200
ROUNDING = 0.5
"""Distances up to this many units in the last place come from storing scaled and rotated weights: each rounding errs
by less than half a unit, and by a quarter of a unit in the mean."""
FINEST = 1e-7
"""Distances up to this are due to the convergence of iterations in float64."""
ALIKE = 1e-2
"""Canonical forms are alike up to this distance, relative to |A|."""
SETTLED = 1e-9
FAR = 0.5
"""A squared distance, relative to |A|², from which on models are too different for a last step."""
NEAR = 0.2
"""A matrix whose elements are so close to those of a signed permutation is taken for it, and a scale that is so near
to 1 for 1."""
HELD = 1e-12
"""The weight of the identity, relative to the squares of weights: it decides directions in which both models are 0."""

FIRST = 2
"""Steps after which the distance must fall; the first ones may raise it where maps are far from the identity."""
UNRELATED = 1e-6
"""Products of A's and B's weights, relative to the squares of one, up to which a map or scale is left at 1: for units
that are 0 in one model the best would be 0."""

State = Mapping[str, Tensor]


def by_forms(spec: PermutationSpec, a: State, b: State) -> Permutations | None:
    """c_A⁻¹ c_B, settled, where c brings a model to its canonical form; None where the forms are not alike.

    Of two models of one orbit it is the element that brings one to the other, whatever was planted.
    """
    if endless(spec):
        return None
    try:
        one, other = (form(spec, state) for state in (a, b))
        gaps = [one.state[name].double() - other.state[name].double() for name in one.state]
        if sum(float(gap.square().sum()) for gap in gaps) > ALIKE**2 * _size(a):
            return None
        return settled(spec, a, b, spec.compose(spec.invert(one.element), other.element), far=np.inf)
    except SpecMismatchError:  # a map that is nearly singular
        return None


def settled(spec: PermutationSpec, a: State, b: State, element: Permutations, *, far: float = FAR) -> Permutations:
    """An element near `element` with smaller |A - element B|.

    Matching brings both models to their smallest norm, and does not determine what has no effect there: directions that
    only one side of a product has, and maps of outputs. Least squares determine them.
    """

    def judged(one: Permutations) -> tuple[float, Permutations]:
        return squared_distance(spec, a, b, one), one

    best = judged(element)
    if best[0] > far * _size(a):
        return element
    best = min(best, judged(_least_squares(spec, a, b, element)), key=itemgetter(0))
    if best[0] > _near(a, b):
        best = _while_it_falls(best, map(judged, jointly(spec, a, b, best[1])))
    return min(judged(spec.compose(_whole(spec, best[1]), spec.identity())), best, key=itemgetter(0))[1]


def _while_it_falls(
    start: tuple[float, Permutations], elements: Iterable[tuple[float, Permutations]]
) -> tuple[float, Permutations]:
    """The best of the first elements, up to the one whose squared distance is not a quarter of the one before it."""
    best, before = start, start[0]
    for turn, judged in enumerate(elements):
        best = min(judged, best, key=itemgetter(0))
        if turn >= FIRST and judged[0] > before / 4:
            break
        before = judged[0]
    return best


def is_near(spec: PermutationSpec, a: State, b: State, element: Permutations) -> bool:
    """Whether A is element B up to rounding and iterations."""
    return squared_distance(spec, a, b, element) <= _near(a, b)


def _near(a: State, b: State) -> float:
    return rounded_off(a, b) ** 2 * _size(a)


def rounded_off(*states: State) -> float:
    """The distance, relative to the weights, that rounding and iterations explain."""
    return max(FINEST, ROUNDING * max(map(rounding, states)))


def _size(state: State) -> float:
    """Σ |θ|² over floating-point tensors."""
    return sum(float(tensor.double().square().sum()) for tensor in state.values() if tensor.is_floating_point())


def squared_distance(spec: PermutationSpec, a: State, b: State, element: Permutations) -> float:
    """Σ |A - element B|² over floating-point tensors, tied ones once."""
    moved = spec.apply(element, b)
    names = [name for name in a if name not in spec.ties.aliases and a[name].is_floating_point()]
    return sum(float((a[name].double() - moved[name].double()).square().sum()) for name in names)


def _least_squares(spec: PermutationSpec, a: State, b: State, element: Permutations) -> Permutations:
    groups = [g for g in spec.groups if g.kind in ("scaled", "monomial", "invertible")]
    where = places(spec, [group.name for group in groups])
    touched = dict.fromkeys(place.name for here in where.values() for place in here)
    wide = {name: tensor.double() if name in touched else tensor for name, tensor in b.items()}
    moved = spec.apply(element, wide)
    pending = [group for group in groups if where[group.name]]
    for _ in range(SWEEPS):
        changed = set[str]()
        for group in pending:
            part, size = _step(group, where[group.name], a, moved)
            if size > SETTLED:
                after = followed(spec.groups, element, {group.name: part})
                if problem(group.kind, group.table_shape, after[group.name]):  # towards a map without an inverse
                    where[group.name] = []
                    continue
                element = after
                for name in dict.fromkeys(place.name for place in where[group.name]):
                    moved[name] = spec.apply_one({group.name: part}, name, moved[name])
                    changed.add(name)
        pending = [group for group in groups if any(place.name in changed for place in where[group.name])]
        if not pending:
            break
    return element


def _step(group: PermutationGroup, here: Sequence[Place], a: State, b: State) -> tuple[Any, float]:
    """argmin over M of |A₊ - M B₊|² + |Mᵀ A₋ - B₋|², of a map or of a scale for each unit, and |M - 1|.

    The equation is Q M + M P = A₊ B₊ᵀ + A₋ B₋ᵀ with Q = A₋ A₋ᵀ and P = B₊ B₊ᵀ.
    """
    mixes = Kind(group.kind).mixes
    rows, n = max(group.count, 1), group.size
    shape = (rows, n, n) if mixes else (rows, n)
    p, q, r = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for place in here:
        one, other = (place.units(state[place.name]).double() for state in (a, b))
        if abs(place.move.power) == 1:
            r += _products(one, other, mixes)
            p += _products(other, other, mixes) if place.move.power > 0 else 0
            q += _products(one, one, mixes) if place.move.power < 0 else 0
    if mixes:
        maps = np.stack([_map(*three) for three in zip(p, q, r, strict=True)])
        part: Any = Matrix(maps.reshape(*group.table_shape, n))
        return part, float(np.abs(maps - np.eye(n)).max(initial=0))
    held = HELD * (p + q).max(initial=0) + np.finfo(float).tiny
    scale = (r + held) / (p + q + held)
    scale = np.where((scale > 0) & (np.abs(r) > UNRELATED * np.maximum(p, q)), scale, 1.0)
    index = np.broadcast_to(np.arange(n), group.table_shape)
    return Monomial(index, scale.reshape(group.table_shape)), float(np.abs(scale - 1).max(initial=0))


def _products(one: Tensor, other: Tensor, mixes: bool) -> Numbers:
    found: Numbers = (one @ other.mT if mixes else (one * other).sum(-1)).cpu().numpy()
    return found


def _map(p: Numbers, q: Numbers, r: Numbers) -> Numbers:
    if np.abs(r).max(initial=0) <= UNRELATED * max(np.trace(p), np.trace(q)):
        return np.eye(len(p))
    (own, u), (other, v) = np.linalg.eigh(p), np.linalg.eigh(q)
    held = HELD * (np.abs(own).max() + np.abs(other).max()) + np.finfo(float).tiny
    sums = np.maximum(other, 0)[:, None] + np.maximum(own, 0)[None, :]
    solved: Numbers = v @ ((v.T @ (r + held * np.eye(len(p))) @ u) / (sums + held)) @ u.T
    return solved if np.linalg.cond(solved) < 1e10 else np.eye(len(p))


def _whole(spec: PermutationSpec, element: Permutations) -> dict[str, Any]:
    """The element with parts rounded to signed permutations, and scales to 1, where they are close to these."""
    return {group.name: _rounded(group, element[group.name]) for group in spec.groups}


def _rounded(group: PermutationGroup, part: Any) -> Any:
    if isinstance(part, Monomial):
        near = np.abs(np.abs(part.scale) - 1) < NEAR
        return Monomial(part.index, np.where(near, np.sign(part.scale), part.scale))
    if not isinstance(part, Matrix):
        return part
    whole = np.round(part.matrix)
    is_order = np.all(np.abs(whole).sum(-1) == 1) and np.all(np.abs(whole).sum(-2) == 1)
    allowed = is_order and (group.kind != "centred" or np.all(whole >= 0))
    return Matrix(whole, part.orthogonal) if allowed and np.abs(part.matrix - whole).max() < NEAR else part


def is_whole(part: Any) -> bool:
    """Whether a part only permutes and changes signs."""
    if isinstance(part, Matrix):
        return bool(np.all(part.matrix == np.round(part.matrix)) and np.all(np.abs(part.matrix).sum(-1) == 1))
    return not isinstance(part, Monomial) or bool(np.all(np.abs(part.scale) == 1))
