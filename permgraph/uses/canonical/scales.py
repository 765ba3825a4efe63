"""The scales of smallest norm: of all numbers that one unit may be scaled by, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.places import Place
from permgraph.symmetry.elements.parts import Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.uses.canonical.blocks import units

SETTLED = 1e-14
Sides = dict[int, Any]
"""Exponent -> what acts where a group has it."""
Cluster = Sequence[PermutationGroup]
"""Groups that scale the same units: one of the units themselves, and further ones of size 1 that depend on them."""


def clusters(groups: Sequence[PermutationGroup]) -> list[Cluster]:
    """The groups of scales by the units that they scale."""
    found: dict[tuple[str, ...], list[PermutationGroup]] = {}
    for group in groups:
        if group.kind in ("scaled", "monomial"):
            own = () if group.size == 1 and group.depends_on else (group.name,)
            found.setdefault((*group.depends_on, *own), []).append(group)
    return list(found.values())


def factors(
    cluster: Cluster, where: Mapping[str, Sequence[Place]], state: Mapping[str, Tensor]
) -> list[tuple[str, Sides, Monomial]]:
    """For each group s^e, for the scales s of the smallest Σ |θ|² Π s^(2e), and s itself; [] where they are all 1.

    If all exponents of a scale have one sign, the norm could go to 0, so a term 1 / s² is added. If a unit has weights
    on only one side of a scale, these become 0 for all e, and s is 1.
    """
    terms = _terms(cluster, where, state)
    if not terms:
        return []
    powers, sizes = np.array(list(terms), dtype=float), np.array(list(terms.values()))
    dead = np.zeros((len(cluster), sizes.shape[1]), dtype=bool)
    for k in range(len(cluster)):
        own = powers[:, k] * (sizes > 0).T
        up, down = (own > 0).any(-1), (own < 0).any(-1)
        if (powers[:, k] >= 0).all() or (powers[:, k] <= 0).all():
            against = -np.sign(powers[:, k].sum()) * np.eye(len(cluster))[k]
            powers, sizes = np.vstack([powers, against]), np.vstack([sizes, (up | down).astype(float)])
        else:
            dead[k] = up != down
    gone = ((powers != 0) @ dead.astype(float)) > 0
    logs = np.where(dead, 0.0, _logs(powers, np.where(gone, 0.0, sizes)))
    if not (np.abs(logs).max(initial=0) > SETTLED or dead.any()):
        return []
    return [_part(group, {vector[k] for vector in terms} - {0}, logs[k], dead[k]) for k, group in enumerate(cluster)]


def _part(group: PermutationGroup, powers: set[int], logs: Numbers, dead: Any) -> tuple[str, Sides, Monomial]:
    index = np.broadcast_to(np.arange(group.size), group.table_shape)
    whole, stays = np.exp(logs).reshape(group.table_shape), np.where(dead, 0.0, 1.0).reshape(group.table_shape)
    sides: Sides = {power: Monomial(index, stays * whole**power) for power in sorted(powers)}
    return group.name, sides, Monomial(index, whole)


def _terms(
    cluster: Cluster, where: Mapping[str, Sequence[Place]], state: Mapping[str, Tensor]
) -> dict[tuple[int, ...], Numbers]:
    """Exponents of the scales -> Σ |θ|² of each unit over the weights that have them."""
    found: dict[tuple[int, ...], Numbers] = {}
    for vector, place in _places(cluster, where):
        squares: Numbers = units(place, state[place.name]).square().sum(-1).cpu().numpy().reshape(-1)
        found[vector] = found.get(vector, 0) + squares
    return found


def _places(cluster: Cluster, where: Mapping[str, Sequence[Place]]) -> Iterator[tuple[tuple[int, ...], Place]]:
    """Each place of the units with the exponents of all scales there, where some are not 0."""
    found: dict[Any, list[int]] = {}
    first: dict[Any, Place] = {}
    for k, group in enumerate(cluster):
        for place in where[group.name]:
            move = place.move
            at = place.name, place.cell, (*move.keys, *((move.leaves,) if move.leaves else ()))
            first.setdefault(at, place)
            found.setdefault(at, [0] * len(cluster))[k] += move.power
    for at, vector in found.items():
        if any(vector):
            yield tuple(vector), first[at]


def _logs(powers: Numbers, sizes: Numbers) -> Numbers:
    """t [m, units] with Σ_k e_k |θ_k|² exp(2 e_k · t) = 0, by Newton's method."""
    t = np.zeros((sizes.shape[1], powers.shape[1]))
    outer = powers[:, :, None] * powers[:, None, :]
    for _ in range(100):
        terms = sizes.T * np.exp(2 * t @ powers.T)
        slope, curve = terms @ powers, 2 * np.tensordot(terms, outer, 1)
        step = (np.linalg.pinv(curve, hermitian=True) @ slope[..., None])[..., 0]
        step /= np.maximum(np.abs(step).max(-1, keepdims=True, initial=0), 1)
        t = t - step
        if np.abs(step).max(initial=0) < SETTLED:
            break
    return np.asarray(t.T)
