"""Canonical bases of rotations: eigenvectors of a Gram matrix of all weights that a group acts on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers, complement_of_ones
from permgraph.symmetry.elements.parts import Matrix
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.canonical.blocks import fixed, places_of, units
from permgraph.uses.canonical.smallest import act

CLOSE = 1e-9
"""Eigenvalues closer than this share of the largest are equal."""


@dataclass(frozen=True)
class Frame:
    """The basis of a group of rotations.

    Attributes:
        group: the group.
        matrix: [..., n, n], the map to this basis: rows are eigenvectors, largest eigenvalue first; for centred maps
            the last row is the vector of ones.
        back: [n, n], for a centred map the map from the basis back to units; the unit matrix for others.
        unsure: whether two eigenvalues of one row are equal.

    """

    group: PermutationGroup
    matrix: Numbers
    back: Numbers
    unsure: bool


def frames(spec: PermutationSpec, state: dict[str, Tensor], rounding: float, least: float) -> list[Frame]:
    """The frame of every group of rotations; `state`, which has the smallest norm, is moved to these bases."""
    groups = [group for group in spec.groups if Kind(group.kind).mixes]
    where = places_of(spec, state, [group.name for group in groups])
    found = []
    for group in groups:
        gram: Any = np.zeros((max(group.count, 1), group.size, group.size))
        for place in where[group.name]:
            block = units(place, state[place.name], fixed(place.name, place.cell).sqrt())
            gram = gram + (block @ block.mT).cpu().numpy()
        found.append(_frame(group, gram, max(CLOSE, 1000 * rounding), least / 10))
    for frame in found:
        _turn(spec, state, frame.group, frame.matrix)
    return found


def turned_back(
    spec: PermutationSpec, state: dict[str, Tensor], found: Iterable[Frame], signs: Mapping[str, Any]
) -> dict[str, Any]:
    """Apply the signs to the axes of each frame, and map the axes of centred maps back to units.

    Returns for each group the total rotation.
    """
    element = {}
    for frame in found:
        back = frame.back * signs[frame.group.name][..., None, :]
        _turn(spec, state, frame.group, back)
        shape = (*frame.group.table_shape, frame.group.size)
        matrix = np.broadcast_to(back, shape) @ frame.matrix.reshape(shape)
        element[frame.group.name] = Matrix(matrix, orthogonal=Kind(frame.group.kind).is_orthogonal)
    return element


def _turn(spec: PermutationSpec, state: dict[str, Tensor], group: PermutationGroup, matrix: Numbers) -> None:
    shape = (*group.table_shape, group.size)
    part = Matrix(np.broadcast_to(matrix.reshape(shape) if matrix.ndim > 2 else matrix, shape).copy(), orthogonal=True)
    act(spec, state, group.name, {1: part, -1: part})


def _frame(group: PermutationGroup, gram: Numbers, close: float, least: float) -> Frame:
    n = group.size
    basis = complement_of_ones(n) if group.kind == "centred" else np.eye(n)
    values, vectors = np.linalg.eigh(basis.T @ gram @ basis)
    rows = np.swapaxes(basis @ vectors[..., ::-1], -1, -2)
    back = np.eye(n)
    if group.kind == "centred":
        ones = np.full((n, 1), n**-0.5)
        rows = np.concatenate([rows, np.broadcast_to(ones.T, (*rows.shape[:-2], 1, n))], -2)
        back = np.concatenate([basis, ones], -1)
    return Frame(group, rows, back, _is_unsure(values, close, least))


def _is_unsure(values: Numbers, close: float, least: float) -> bool:
    """Whether two nonzero eigenvalues are equal, or a nonzero one cannot be distinguished from 0."""
    largest = values.max(-1, keepdims=True, initial=0)
    near = np.diff(values, axis=-1) <= close * largest
    return bool(np.any(near & (values[..., 1:] > least * largest)))
