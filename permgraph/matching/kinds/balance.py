"""The representative of smallest norm: the remaining symmetry is permutations, signs and rotations.

Scales and invertible maps have no largest inner product: |θ| grows without bound along them. In the orbit of θ under
them the points of smallest norm form one orbit of the orthogonal maps (Kempf and Ness, 1979). So both models are
moved to such points and matched there by closed forms; then B is moved by the inverse of A's map.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.matrices import Numbers
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.kinds.places import Place, places
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations, followed
from permgraph.symmetry.specification.spec import PermutationSpec

SWEEPS = 100
SETTLED = 1e-8
STEPS = 50  # of Newton for scales that have more than two exponents
PLAIN = 1e-6  # of the largest eigenvalue: above it the plain formula loses no more than half of all digits
FLOOR = 1e-6  # of the largest singular value of the product of two sides: directions below it are left as they are


def balance(
    spec: PermutationSpec, state: Mapping[str, Tensor], names: Collection[str]
) -> tuple[Permutations, Mapping[str, Tensor]]:
    """argmin over scales and invertible maps g of Σ |g θ|², and g θ; groups not in `names` do not move.

    For an invertible map with Gram matrices G (side 1) and H (side -1) the minimum is C = X^½ with X G X = H; for
    scales with exponents ±1 it is s⁴ = |θ₋|² / |θ₊|². Groups that act on one tensor are solved in turn until they
    converge. If weights are read on demand, only the tensors of one such set are held, and g θ is computed on demand.
    """
    groups = [g for g in spec.groups if g.name in names and g.kind in ("scaled", "monomial", "invertible")]
    element: Permutations = spec.identity()
    where = places(spec, [group.name for group in groups])
    for members in _meeting(groups, where):
        element = _settled(spec, state, members, where, element)
    found = {group.name: element[group.name] for group in groups}
    if isinstance(state, LazyState):
        return element, spec.on_demand(found, state, torch.float32)
    first, moved = spec.ties.aliases, dict[str, Tensor]()
    for name in sorted(spec.layouts.keys() & state, key=lambda name: name in first):
        if not found.keys().isdisjoint(spec.layouts[name].groups):
            same = moved.get(first.get(name, ""))
            moved[name] = spec.apply_one(found, name, state[name]) if same is None else same
    return element, {**state, **moved}


def _meeting(
    groups: Sequence[PermutationGroup], where: Mapping[str, Sequence[Place]]
) -> Iterator[list[PermutationGroup]]:
    """Groups in sets that share no tensor."""
    label = {group.name: group.name for group in groups if where[group.name]}
    first: dict[str, str] = {}
    for name in label:
        for place in where[name]:
            old, new = label[name], label[first.setdefault(place.name, name)]
            label = {key: new if mark == old else mark for key, mark in label.items()} if old != new else label
    for mark in dict.fromkeys(label.values()):
        yield [group for group in groups if label.get(group.name) == mark]


def _settled(
    spec: PermutationSpec,
    state: Mapping[str, Tensor],
    groups: Sequence[PermutationGroup],
    where: Mapping[str, Sequence[Place]],
    element: Permutations,
) -> Permutations:
    """The element, followed by the maps that balance these groups."""
    touched = dict.fromkeys(place.name for group in groups for place in where[group.name])
    moved = {name: state[name].double() for name in touched}
    pending = {group.name: group for group in groups}
    alone = len(groups) == 1 and _is_once(where[groups[0].name])  # one step is the minimum
    for _ in range(SWEEPS):
        changed: set[str] = set()
        for group in list(pending.values()):
            part, size = _step(group, where[group.name], moved)
            if size > SETTLED:
                step = {group.name: part}
                element = followed(spec.groups, element, step)
                for name in dict.fromkeys(place.name for place in where[group.name]):
                    moved[name] = spec.apply_one(step, name, moved[name])
                    changed.add(name)
        pending = {g.name: g for g in groups if any(place.name in changed for place in where[g.name])}
        if not pending or alone:
            break
    return element


def _is_once(here: Sequence[Place]) -> bool:
    """Whether no element is moved at two places."""
    return len({(place.name, place.cell) for place in here}) == len(here)


def _step(group: PermutationGroup, here: Sequence[Place], state: Mapping[str, Tensor]) -> tuple[Any, float]:
    """The balancing part of a group with all others held, and how far it is from the identity."""
    if group.kind == "invertible":
        matrix = _balancing_maps(group, here, state)
        return Matrix(matrix), float(np.abs(matrix - np.eye(group.size)).max(initial=0))
    logs = _balancing_logs(group, here, state)
    index = np.broadcast_to(np.arange(group.size), group.table_shape)
    return Monomial(index, np.exp(logs).reshape(group.table_shape)), float(np.abs(logs).max(initial=0))


def _balancing_maps(group: PermutationGroup, here: Sequence[Place], state: Mapping[str, Tensor]) -> Numbers:
    shape = (max(group.count, 1), group.size, group.size)
    grams = {1: np.zeros(shape), -1: np.zeros(shape)}
    for place in here:
        units = place.units(state[place.name]).double()
        grams[1 if place.move.power > 0 else -1] += (units @ units.mT).cpu().numpy()
    found = np.stack([_geometric(g, h) for g, h in zip(grams[1], grams[-1], strict=True)])
    return found.reshape(*group.table_shape, group.size)


def _geometric(g: Numbers, h: Numbers) -> Numbers:
    """X^½ for the positive X with X G X = H, the geometric mean of G⁻¹ and H, on the directions that both sides have.

    Where G = L Lᵀ and H have no small directions, X = L⁻ᵀ (Lᵀ H L)^½ L⁻¹. Else, with H = R Rᵀ and Rᵀ L = U S Vᵀ, the
    rows of S^-½ Uᵀ Rᵀ have their duals in those of S^-½ Vᵀ Lᵀ. Together with a basis of what is orthogonal to these
    duals they are a map M that balances, and (Mᵀ M)^½ is the positive one.
    """
    plain = _plain_geometric(g, h)
    if plain is not None:
        return plain
    left, right = _root(g), _root(h)
    u, s, v = np.linalg.svd(right.T @ left)
    rank = int((s > FLOOR * max(s.max(initial=0), np.finfo(float).tiny)).sum())
    scale = s[:rank, None] ** -0.5
    _, _, duals = np.linalg.svd(scale * (v[:rank] @ left.T))
    maps = np.concatenate([scale * (u[:, :rank].T @ right.T), duals[rank:]])
    return _power(maps.T @ maps, 0.5)


def _plain_geometric(g: Numbers, h: Numbers) -> Numbers | None:
    """`_geometric` for well-conditioned G and H, None for others."""
    try:
        lower = np.linalg.cholesky((g + g.T) / 2)
    except np.linalg.LinAlgError:
        return None
    values, vectors = np.linalg.eigh(lower.T @ h @ lower)
    if not values[0] > PLAIN * values[-1] or not np.diag(lower).min() > PLAIN**0.5 * np.diag(lower).max():
        return None
    side = np.linalg.solve(lower.T, vectors * values**0.25)
    return _power(side @ side.T, 0.5)


def _root(gram: Numbers) -> Numbers:
    """R with R Rᵀ = G."""
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    found: Numbers = vectors * np.sqrt(np.maximum(values, 0))
    return found


def _power(matrix: Numbers, exponent: float) -> Numbers:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    found: Numbers = (vectors * np.maximum(values, np.finfo(float).tiny) ** exponent) @ vectors.T
    return found


def _balancing_logs(group: PermutationGroup, here: Sequence[Place], state: Mapping[str, Tensor]) -> Numbers:
    """log s of every unit, [count · size]: the minimum of Σ_e |θ_e|² s^(2e); 0 where it has none."""
    squares: dict[int, Numbers] = {}
    for place in here:
        if place.move.power:
            units = place.units(state[place.name])
            total = _squares(units).reshape(-1)
            squares[place.move.power] = squares.get(place.move.power, np.zeros(len(total))) + total
    count = max(group.count, 1) * group.size
    if not squares:
        return np.zeros(count)
    exponents = np.array(list(squares))[:, None]
    sizes = np.array(list(squares.values()))
    up, down = (sizes * (exponents > 0)).sum(0) > 0, (sizes * (exponents < 0)).sum(0) > 0
    return np.where(up & down, _newton(exponents, sizes), 0.0)


def _squares(units: Tensor) -> Numbers:
    found: Numbers = units.double().square().sum(-1).cpu().numpy()
    return found


def _newton(exponents: Numbers, sizes: Numbers) -> Numbers:
    t = np.zeros(sizes.shape[1])
    for _ in range(STEPS):
        terms = sizes * np.exp(2 * exponents * t)
        slope, curve = (2 * exponents * terms).sum(0), (4 * exponents**2 * terms).sum(0)
        step = np.clip(np.divide(slope, curve, out=np.zeros_like(t), where=curve > 0), -1, 1)
        t = t - step
        if np.abs(step).max(initial=0) < 1e-14:
            break
    return t
