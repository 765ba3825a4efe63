"""Products with matrices of low rank, such as the gradients of weights that few tokens pass."""

from __future__ import annotations

import torch
from torch import Tensor

RANK = 64
EXACT = 1e-13  # of the norm of a matrix: what float64 leaves
SLAB = 2**22  # elements that are compared at once


def shortened(value: Tensor, other: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Two matrices with <Qᵀ value, Qᵀ other> = <value, other> and `RANK` rows (columns for `dim` 1), if Q Qᵀ other =
    other for orthonormal Q; else the matrices themselves.

    What acts on the other dimension alone acts on Qᵀ value as on value. Q is found by a random projection (Halko,
    Martinsson and Tropp, 2011).
    """
    if dim == 1:
        short, gradient = shortened(value.mT, other.mT, 0)
        return short.mT, gradient.mT
    if min(other.shape) <= 2 * RANK:
        return value, other
    drawn = torch.randn(
        other.shape[1], RANK, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu"
    )
    basis = torch.linalg.qr(other @ drawn.to(other)).Q
    short = basis.mT @ other
    return (basis.mT @ value, short) if _is_product(other, basis, short) else (value, other)


def _is_product(matrix: Tensor, left: Tensor, right: Tensor) -> bool:
    """Whether left right = matrix up to rounding."""
    step = max(1, SLAB // matrix.shape[1])
    pairs = zip(torch.split(matrix, step), torch.split(left, step), strict=True)
    error = sum(float((rows - some @ right).square().sum()) for rows, some in pairs)
    return error <= EXACT**2 * float(torch.dot(matrix.flatten(), matrix.flatten()))
