"""The state of smallest norm in the closure of the orbit of scales and invertible maps.

The states of smallest norm in the closure of an orbit form one orbit of the signs, permutations and rotations (Kempf
and Ness, 1979), and a continuous function is the same on all of the closure. If a unit has no incoming weights, its
outgoing weights become 0; if two factors of a product do not have full rank, only their product is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.places import Place
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.parts import Matrix
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations, followed
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.canonical.blocks import places_of, units
from permgraph.uses.canonical.scales import SETTLED, Sides, clusters, factors

SWEEPS = 2000
RANK = 1e-13
"""Singular values up to this are 0 up to the rounding of float64."""


def smallest(
    spec: PermutationSpec, state: Mapping[str, Tensor], least: float
) -> tuple[dict[str, Tensor], Permutations, tuple[str, ...]]:
    """The state of smallest norm in float64, an element that leads there, and the groups that have not settled there.

    Singular values of a product below `least`, a share of the norms of its factors, count as 0. If only a limit of
    elements reaches the state, the element does not change the weights that become 0.
    """
    groups = [g for g in spec.groups if g.kind in ("scaled", "monomial", "invertible")]
    where = places_of(spec, state, [group.name for group in groups])
    moved = dict(state)
    element: Permutations = spec.identity()
    pending = [*clusters(groups), *([group] for group in groups if group.kind == "invertible")]
    whole = pending
    for _ in range(SWEEPS):
        changed = set[str]()
        for cluster in pending:
            scales = cluster[0].kind != "invertible"
            steps = factors(cluster, where, moved) if scales else _maps_of(cluster[0], where, moved, least)
            for name, sides, part in steps:
                changed |= act(spec, moved, name, sides)
                element = followed(spec.groups, element, {name: part})
        pending = [one for one in whole if any(place.name in changed for g in one for place in where[g.name])]
        if not pending:
            break
    return moved, element, tuple(group.name for cluster in pending for group in cluster)


def act(spec: PermutationSpec, state: dict[str, Tensor], group: str, sides: Sides) -> set[str]:
    """Apply a separate part for every power of a group to all tensors, in place; returns their names.

    Such a pair of parts, M for power 1 and N for -1, need not be an element of the group, and may have no inverse.
    """
    found = set[str]()
    for name, layout in spec.layouts.items():
        if group in layout.groups and name not in spec.ties.aliases:
            for power, part in sides.items():
                state[name] = _only(layout, group, power).apply({group: part}, state[name])
            found.add(name)
    return found


def _only(layout: Layout, group: str, power: int) -> Layout:
    """The layout with only the moves of one group that have this power; their power becomes 1."""

    def kept(moves: Sequence[Move]) -> tuple[Move, ...]:
        return tuple(replace(m, power=1) for m in moves if m.group == group and m.power == power)

    return Layout(layout.shape, tuple(Cell(cell.offsets, cell.leaves, kept(cell.moves)) for cell in layout.cells))


def _maps_of(
    group: PermutationGroup, where: Mapping[str, Sequence[Place]], state: Mapping[str, Tensor], least: float
) -> list[tuple[str, Sides, Matrix]]:
    """The maps that bring a group to its smallest norm with all others held, and an element; [] if it is there."""
    here = where[group.name]
    left, right = (_roots([units(p, state[p.name]) for p in here if p.move.power == side], group) for side in (1, -1))
    twice = any(sum(move.group == group.name for move in place.cell.moves) > 1 for place in here)
    found = [_maps(a, b, least, half=twice) for a, b in zip(left, right, strict=True)]
    if all(maps is None for maps in found):
        return []
    eye = np.eye(group.size)
    first, second, whole = (
        Matrix(np.stack([eye if m is None else m[k] for m in found]).reshape(*group.table_shape, group.size), k < 2)
        for k in range(3)
    )
    return [(group.name, {1: first, -1: second}, whole)]


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
