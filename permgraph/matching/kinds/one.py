"""The best element of one group alone: assignment for orders and signs, a polar factor for rotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers, complement_of_ones
from permgraph.assignment.flat import assign_each
from permgraph.symmetry.elements.parts import Index, Matrix, Monomial

STILL = 1e-9
"""Added to the identity's similarity, relative to the largest entry, so that undetermined directions do not move."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """[..., n, n]: inner products of units of A with units of B where a group acts, row A, column B.

    `odd`: whether a sign of the group reaches this place. `further`: the further sign that does, "" for none.
    """

    matrix: Numbers
    odd: bool = True
    further: str = ""


def best(kind: str, size: int, given: Sequence[Similarity]) -> tuple[Any, Numbers]:
    """The parts that maximise Σ <A, part B> for each matrix of a stack, and the maxima.

    For a permutation Σ_i S[i, π(i)] by assignment; with signs the larger of ± S. For orthogonal maps tr(O Sᵀ), which
    the polar factor of S maximises: its value is the sum of the singular values. Scales are balanced before: see
    `balance`.
    """
    lead = given[0].matrix.shape[:-2] if given else ()
    stacks = [Similarity(one.matrix.reshape(-1, size, size), one.odd, one.further) for one in given]
    if Kind(kind).mixes:
        total = _sum([one.matrix for one in stacks], size)
        matrices, values = _polar(kind, total)
        return Matrix(matrices.reshape(*lead, size, size), orthogonal=True), values.reshape(lead)
    gain, signs = _signed(stacks, size, has_signs=kind in ("signed", "monomial"))
    index = assign_each(gain)
    values = np.take_along_axis(gain, index[..., None], -1)[..., 0].sum(-1).reshape(lead)
    table: Index = index.reshape(*lead, size)
    if kind == "permutation":
        return table, values
    scale = np.take_along_axis(signs, index[..., None], -1)[..., 0].reshape(*lead, size)
    return Monomial(table, scale), values


def nuclear(matrices: Numbers) -> Numbers:
    """Σ of the singular values of each matrix, from the eigenvalues of Sᵀ S: to half of all digits."""
    wide = matrices.astype(np.float64, copy=False)
    values = np.linalg.eigvalsh(np.swapaxes(wide, -1, -2) @ wide)
    found: Numbers = np.sqrt(np.maximum(values, 0)).sum(-1)
    return found


def _sum(matrices: Sequence[Numbers], size: int) -> Numbers:
    """A new array, of the widest dtype among them."""
    if not matrices:
        return np.zeros((1, size, size))
    total: Numbers = matrices[0].copy()
    for matrix in matrices[1:]:
        total = np.add(total, matrix, out=total if total.dtype == np.result_type(total, matrix) else None)
    return total


def _polar(kind: str, total: Numbers) -> tuple[Numbers, Numbers]:
    """The orthogonal polar factors of a stack, in the complement of ones for centred maps, and tr(O Sᵀ)."""
    size, total = total.shape[-1], total.astype(np.float64, copy=False)
    total = total + STILL * np.abs(total).max(initial=0) * np.eye(size)
    if kind != "centred":
        u, s, v = np.linalg.svd(total)
        return u @ v, s.sum(-1)
    basis = complement_of_ones(size)
    u, s, v = np.linalg.svd(basis.T @ total @ basis)
    ones = np.full((size, size), 1 / size)
    return basis @ u @ v @ basis.T + ones, s.sum(-1) + total.sum((-1, -2)) / size


def _signed(stacks: Sequence[Similarity], size: int, *, has_signs: bool) -> tuple[Numbers, Numbers]:
    """The value of each pair of units with its best signs, and the group's own sign for it.

    A further sign is chosen for each pair, given that of the group: |even + sign · odd| where it acts.
    """
    names = dict.fromkeys(one.further for one in stacks)
    if not (has_signs or any(names)):
        gain = _sum([one.matrix for one in stacks], size)
        return gain, np.broadcast_to(1.0, gain.shape)
    parts = {
        name: [_sum([s.matrix for s in stacks if s.further == name and s.odd is odd], size) for odd in (False, True)]
        for name in names
    }
    if not has_signs:
        gain = _worth(parts, 1)
        return gain, np.broadcast_to(1.0, gain.shape)
    gain, other = _worth(parts, 1), _worth(parts, -1)
    signs = np.where(other > gain, np.int8(-1), np.int8(1))
    return np.maximum(gain, other, out=gain), signs


def _worth(parts: Mapping[str, Sequence[Numbers]], sign: int) -> Numbers:
    """Σ even + sign · odd, its magnitude where there is a further sign."""
    total: Numbers | None = None
    for name, (even, odd) in parts.items():
        value = even + odd if sign > 0 else even - odd
        value = np.abs(value, out=value) if name else value
        total = value if total is None else total + value
    assert total is not None
    return total
