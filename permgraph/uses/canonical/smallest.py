"""The state of smallest norm that scales and invertible maps lead to, also where they only come near it.

The states of smallest norm in the closure of an orbit form one orbit of the signs, orders and rotations (Kempf and
Ness, 1979), and a continuous function is the same on all of the closure. Where a unit has no incoming weights, its
outgoing ones become 0; where two factors of a product have not full rank, only their product stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.matching.kinds.places import Place
from permgraph.symmetry.layout import Cell, Layout, Move
from permgraph.symmetry.parts import Matrix, Monomial, Numbers
from permgraph.symmetry.permutations import PermutationGroup, Permutations, followed
from permgraph.symmetry.spec import PermutationSpec
from permgraph.uses.canonical.blocks import places_of, units

Sides = dict[int, Any]
"""Exponent -> what acts where a group has it."""
SWEEPS = 2000
SETTLED = 1e-14
RANK = 1e-13
"""What float64 leaves of singular values that are 0."""


def smallest(
    spec: PermutationSpec, state: Mapping[str, Tensor], least: float
) -> tuple[dict[str, Tensor], Permutations, tuple[str, ...]]:
    """The state of smallest norm in float64, an element that leads there, and the groups that have not settled there.

    Singular values of a product below `least`, a share of the norms of its factors, are 0. Where the state is only come
    near, the element leaves what becomes 0 as it is.
    """
    groups = [g for g in spec.groups if g.kind in ("scaled", "monomial", "invertible")]
    where = places_of(spec, state, [group.name for group in groups])
    moved = dict(state)
    element: Permutations = spec.identity()
    pending = [group for group in groups if where[group.name]]
    for _ in range(SWEEPS):
        changed = set[str]()
        for group in pending:
            step = _step(group, where[group.name], moved, least)
            if step is not None:
                sides, part = step
                changed |= act(spec, moved, group.name, sides)
                element = followed(spec.groups, element, {group.name: part})
        pending = [g for g in groups if any(place.name in changed for place in where[g.name])]
        if not pending:
            break
    return moved, element, tuple(group.name for group in pending)


def act(spec: PermutationSpec, state: dict[str, Tensor], group: str, sides: Sides) -> set[str]:
    """Apply a part of its own for every power of a group to all tensors, in place of state; returns their names.

    Such a pair of parts, as M and N for M⁻ᵀ, need not be an element of the group, and may have no inverse.
    """
    found = set[str]()
    for name, layout in spec.layouts.items():
        if group in layout.groups and name not in spec.ties.aliases:
            for power, part in sides.items():
                state[name] = _only(layout, group, power).apply({group: part}, state[name])
            found.add(name)
    return found


def _only(layout: Layout, group: str, power: int) -> Layout:
    """The layout with nothing but one group where it has this power, which becomes 1."""

    def kept(moves: Sequence[Move]) -> tuple[Move, ...]:
        return tuple(replace(m, power=1) for m in moves if m.group == group and m.power == power)

    return Layout(layout.shape, tuple(Cell(cell.offsets, cell.leaves, kept(cell.moves)) for cell in layout.cells))


def _step(
    group: PermutationGroup, here: Sequence[Place], state: Mapping[str, Tensor], least: float
) -> tuple[Sides, Any] | None:
    """What brings a group to its smallest norm with all others held, and an element; None where it is there."""
    if group.kind != "invertible":
        return _factors(group, here, state)
    left, right = (_roots([units(p, state[p.name]) for p in here if p.move.power == side], group) for side in (1, -1))
    twice = any(sum(move.group == group.name for move in place.cell.moves) > 1 for place in here)
    found = [_maps(a, b, least, half=twice) for a, b in zip(left, right, strict=True)]
    if all(maps is None for maps in found):
        return None
    eye = np.eye(group.size)
    first, second, whole = (
        Matrix(np.stack([eye if m is None else m[k] for m in found]).reshape(*group.table_shape, group.size), k < 2)
        for k in range(3)
    )
    return {1: first, -1: second}, whole


def _roots(blocks: Sequence[Tensor], group: PermutationGroup) -> Numbers:
    """R [rows, n, k] with R Rᵀ = X Xᵀ, for the weights X [rows, n, all] of one side."""
    if not blocks:
        return np.zeros((max(group.count, 1), group.size, 1))
    found: Numbers = torch.linalg.qr(torch.cat(list(blocks), -1).mT, mode="r").R.mT.cpu().numpy()
    return found


def _maps(left: Numbers, right: Numbers, least: float, *, half: bool) -> tuple[Numbers, Numbers, Numbers] | None:
    """Maps of the two sides after which their Gram matrices are equal; `half` goes half of the way.

    With Rᵀ L = U S Vᵀ they are S^-½ Uᵀ Rᵀ and S^-½ Vᵀ Lᵀ, without the directions in which S is 0. The third is an
    invertible M with the rows of the first, for which M⁻ᵀ has those of the second.
    """
    g, h = left @ left.T, right @ right.T
    if np.abs(g - h).max() <= SETTLED * len(g) * (np.trace(g) + np.trace(h)):
        return None
    u, s, vt = np.linalg.svd(right.T @ left, full_matrices=False)
    rank = int((s > least * np.linalg.norm(left) * np.linalg.norm(right)).sum())
    first, second = np.zeros_like(g), np.zeros_like(g)
    scale = s[:rank, None] ** -0.5
    first[:rank] = scale * (u[:, :rank].T @ right.T)
    second[:rank] = scale * (vt[:rank] @ left.T)
    if half and rank == len(g):
        step = _power(first.T @ first, 0.25)
        return step, _power(step, -1), step
    _, _, duals = np.linalg.svd(second[:rank])
    return first, second, np.concatenate([first[:rank], duals[rank:]])


def _power(matrix: Numbers, exponent: float) -> Numbers:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    found: Numbers = (vectors * values**exponent) @ vectors.T
    return found


def _factors(group: PermutationGroup, here: Sequence[Place], state: Mapping[str, Tensor]) -> tuple[Sides, Any] | None:
    """s^e for the scales s with the smallest Σ_e |θ_e|² s^(2e), 0 for all e where one side has none.

    Where all exponents have one sign, nothing stands against the smallest norm 0, and it becomes 1.
    """
    squares: dict[int, Numbers] = {}
    for place in here:
        if place.move.power:
            total: Numbers = units(place, state[place.name]).square().sum(-1).cpu().numpy().reshape(-1)
            squares[place.move.power] = squares.get(place.move.power, 0) + total
    if not squares:
        return None
    powers, sizes = np.array(list(squares))[:, None], np.array(list(squares.values()))
    if one_sided := (powers > 0).all() or (powers < 0).all():
        powers, sizes = np.append(powers, -powers[:1], 0), np.append(sizes, np.ones_like(sizes[:1]), 0)
    up, down = ((sizes * (powers * sign > 0)).sum(0) > 0 for sign in (1, -1))
    logs = np.where(up & down, _logs(powers, sizes), 0.0)
    dead = np.zeros_like(up) if one_sided else up != down
    if not (np.abs(logs).max(initial=0) > SETTLED or dead.any()):
        return None
    index = np.broadcast_to(np.arange(group.size), group.table_shape)
    whole = np.exp(logs).reshape(group.table_shape)
    stays = np.where(dead, 0.0, 1.0).reshape(group.table_shape)
    return {power: Monomial(index, stays * whole**power) for power in squares}, Monomial(index, whole)


def _logs(powers: Numbers, sizes: Numbers) -> Numbers:
    """t with Σ_e e |θ_e|² exp(2 e t) = 0, by Newton's method."""
    t = np.zeros(sizes.shape[1])
    for _ in range(100):
        terms = sizes * np.exp(2 * powers * t)
        slope, curve = (powers * terms).sum(0), (2 * powers**2 * terms).sum(0)
        step = np.clip(np.divide(slope, curve, out=np.zeros_like(t), where=curve > 0), -1, 1)
        t = t - step
        if np.abs(step).max(initial=0) < SETTLED:
            break
    return t
