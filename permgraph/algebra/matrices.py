"""Matrices of the kinds that mix units: random ones, and why given ones are not of a kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SPREAD = 0.5  # the standard deviation of the logarithms of random scales
TOLERANCE = 1e-6


def rotation(generator: np.random.Generator, shape: Sequence[int]) -> Numbers:
    """Orthogonal matrices [..., n, n], uniformly random."""
    if not shape[-1]:
        return np.zeros((*shape, 0))
    q, r = np.linalg.qr(generator.standard_normal((*shape, shape[-1])))
    return np.asarray(q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :])


def complement_of_ones(n: int) -> Numbers:
    """An orthonormal basis [n, n - 1] of the vectors whose elements sum to 0."""
    q, _ = np.linalg.qr(np.eye(n) - 1 / n)
    return np.asarray(q[:, : n - 1])


def scales(generator: np.random.Generator, shape: Sequence[int]) -> Numbers:
    """Positive numbers around 1."""
    return np.asarray(np.exp(SPREAD * generator.standard_normal(shape)))


draw_orthogonal = rotation


def draw_centred(generator: np.random.Generator, shape: Sequence[int]) -> Numbers:
    """Orthogonal matrices that keep the vector of ones, uniformly random."""
    n = shape[-1]
    inner, basis = rotation(generator, (*shape[:-1], n - 1)), complement_of_ones(n)
    return np.asarray(basis @ inner @ basis.T + np.full((n, n), 1 / n))


def draw_invertible(generator: np.random.Generator, shape: Sequence[int]) -> Numbers:
    """Invertible matrices with singular values around 1."""
    first = rotation(generator, shape)
    stretch = scales(generator, shape)
    return np.asarray(first * stretch[..., None, :] @ rotation(generator, shape))


def fault_of_orthogonal(matrix: Numbers) -> str:
    """Whether M Mᵀ is the identity."""
    off = np.abs(matrix @ np.swapaxes(matrix, -1, -2) - np.eye(matrix.shape[-1])).max(initial=0)
    return "a matrix that is not orthogonal" if off > TOLERANCE else ""


def fault_of_centred(matrix: Numbers) -> str:
    """Whether M Mᵀ is the identity and M 1 = 1."""
    if fault := fault_of_orthogonal(matrix):
        return fault
    off = np.abs(matrix.sum(-1) - 1).max(initial=0)
    return "a matrix that does not leave the vector of ones where it is" if off > TOLERANCE else ""


def fault_of_invertible(matrix: Any) -> str:
    """Whether M has an inverse that float64 can hold."""
    return "a matrix that has no inverse" if np.any(np.linalg.cond(matrix) > 1e12) else ""
