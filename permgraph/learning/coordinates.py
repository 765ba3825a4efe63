"""Free numbers x that give an element of the continuous part of a symmetry group, the identity at x = 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup

WIDTH = 64
"""The size of matrices that are learned at the rate itself. A step of Adam changes every entry by about the rate, so
that the norm of the whole step follows the size of the matrix: a larger one takes a smaller rate."""
PACE = 4.0
"""The largest multiple of the rate, for scales and for small matrices."""


class Coordinates:
    """x -> element(x), smooth, injective near 0, and onto a neighbourhood of the identity of the continuous part.

    Rotations are Cayley transforms (1 - S/2)⁻¹ (1 + S/2) of S = (x - xᵀ)/2, which agree with exp S to second order and
    take one solve; where they must fix the vector of ones, of S with its rows and columns centred. Invertible maps are
    exp x, so that they always have an inverse; scales are exp x too. Groups whose dimension is 0 have no coordinates.
    """

    def __init__(self, groups: Sequence[PermutationGroup], device: torch.device, dtype: torch.dtype) -> None:
        self.groups = {group.name: group for group in groups if group.dimension}
        shapes = {
            name: group.table_shape if group.kind in ("scaled", "monomial") else (*group.table_shape, group.size)
            for name, group in self.groups.items()
        }
        self.tensors = {
            name: torch.zeros(shape, device=device, dtype=dtype, requires_grad=True) for name, shape in shapes.items()
        }

    @property
    def paces(self) -> dict[str, float]:
        """The multiple of the learning rate for each group."""
        return {
            name: min(WIDTH / group.size, PACE) if Kind(group.kind).mixes else PACE
            for name, group in self.groups.items()
        }

    def element(self) -> dict[str, Any]:
        """The part of each group at x, in torch, to be differentiated."""
        return {name: _part(group, self.tensors[name]) for name, group in self.groups.items()}

    def exact(self, x: Mapping[str, Tensor]) -> dict[str, Any]:
        """The part of each group at `x`, computed in float64."""
        parts = {name: _part(group, x[name].detach().double().cpu()) for name, group in self.groups.items()}
        return {name: _numbers(part) for name, part in parts.items()}


def _part(group: PermutationGroup, x: Tensor) -> Any:
    if group.kind in ("scaled", "monomial"):
        return Monomial(np.broadcast_to(np.arange(group.size), group.table_shape), x.exp())
    if group.kind == "invertible":
        return Matrix(torch.linalg.matrix_exp(x), inverse=torch.linalg.matrix_exp(-x))
    return Matrix(rotation(x, centred=group.kind == "centred"), orthogonal=True)


def rotation(x: Tensor, *, centred: bool) -> Tensor:
    """The Cayley transform of the skew part of x, [..., n, n]; it fixes the vector of ones where it is to."""
    if centred:
        x = x - x.mean(-1, keepdim=True)
        x = x - x.mean(-2, keepdim=True)
    half = (x - x.mT) / 4
    one = torch.eye(x.shape[-1], device=x.device, dtype=x.dtype)
    found: Tensor = torch.linalg.solve(one - half, one + half)
    return found


def _numbers(part: Any) -> Any:
    if isinstance(part, Monomial):
        return Monomial(part.index, part.scale.numpy())
    return Matrix(part.matrix.numpy(), part.orthogonal)
