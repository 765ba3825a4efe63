"""Directions that activations do not tell, as where there are fewer frames than units: weights choose them.

The best map is known on the span of A's activations alone. On the rest, with basis N, it is the polar factor of
Nᵀ W N: W is the inner product of weights, A's with B's as moved already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers, complement_of_ones
from permgraph.matching.kinds.ascent import WORTHWHILE, Ascent
from permgraph.matching.kinds.one import STILL
from permgraph.matching.kinds.terms import Cross, of_one
from permgraph.symmetry.elements.parts import Matrix
from permgraph.symmetry.elements.permutations import PermutationGroup

FLOOR = 1e-6  # of the largest singular value: below it is the rounding of float32

Directions = Mapping[str, Sequence[Numbers]]
"""A group -> for each row of its table an orthonormal basis [units, directions] of what activations do not tell."""


def unseen(groups: Sequence[PermutationGroup], terms: Sequence[Cross], found: Mapping[str, Any]) -> Directions:
    """The directions of groups of maps in which the activations of A and B, matched as `found`, have no overlap."""
    chosen = {}
    for group in groups:
        if Kind(group.kind).mixes:
            total = of_one(group, groups, terms, found)
            rows = [_null(group.kind, matrix) for matrix in total.reshape(-1, group.size, group.size)]
            if any(basis.shape[1] for basis in rows):
                chosen[group.name] = rows
    return chosen


def complete(ascent: Ascent, groups: Sequence[PermutationGroup], directions: Directions) -> None:
    """Move B in these directions alone, group by group, as long as a round gains."""
    members = [group for group in groups if group.name in directions]
    value = ascent.value() if members else 0.0
    for _ in range(ascent.rounds if members else 0):
        for group in members:
            weights = of_one(group, groups, ascent.crosses({group.name}, ascent.sites, {}, ascent.moved), {})
            rows = zip(weights.reshape(-1, group.size, group.size), directions[group.name], strict=True)
            maps = np.stack([_turned(matrix, basis) for matrix, basis in rows])
            shape = (*group.table_shape, group.size)
            ascent.placed.apply({group.name: Matrix(maps.reshape(shape), orthogonal=True)})
        before, value = value, ascent.value()
        if value <= before + WORTHWHILE * abs(before):
            break


def _null(kind: str, matrix: Numbers) -> Numbers:
    """[units, directions]: what is orthogonal to the columns of a matrix; centred maps do not move ones."""
    basis = complement_of_ones(len(matrix)) if kind == "centred" else np.eye(len(matrix))
    left, values, _ = np.linalg.svd(basis.T @ matrix)
    rank = int((values > FLOOR * max(values.max(initial=0), np.finfo(float).tiny)).sum())
    null: Numbers = basis @ left[:, rank:]
    return null


def _turned(weights: Numbers, basis: Numbers) -> Numbers:
    """The map that is the identity but in the directions of a basis, and there the best for these weights."""
    here = basis.T @ weights.astype(np.float64, copy=False) @ basis
    left, _, right = np.linalg.svd(here + STILL * np.abs(here).max(initial=0) * np.eye(len(here)))
    turned: Numbers = np.eye(len(basis)) + basis @ (left @ right - np.eye(len(here))) @ basis.T
    return turned
