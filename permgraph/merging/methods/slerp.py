"""Spherical interpolation of weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from permgraph.merging.registry import merge_method
from permgraph.merging.shares import Share


@merge_method("slerp", reference="Shoemake, SIGGRAPH 1985", most=2)
def slerp(tensors: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
    """Along the great arc between the directions of a and b, with the interpolated length; linear where they agree.

    (sin(weight · φ) a/|a| + sin((1 - weight) · φ) b/|b|) / sin φ · (weight |a| + (1 - weight) |b|), φ the angle and
    `weight` the share of a. Of more than two directions there is no one such mean.
    """
    (a, b), (weight, rest) = tensors, shares
    length_a, length_b = a.norm(), b.norm()
    if not (length_a and length_b):
        return weight * a + rest * b
    unit_a, unit_b = a / length_a, b / length_b
    angle = torch.acos((unit_a * unit_b).sum().clamp(-1, 1))
    if angle.sin() < 1e-6:
        return weight * a + rest * b
    direction = torch.sin(weight * angle) * unit_a + torch.sin(rest * angle) * unit_b
    merged: Tensor = direction / angle.sin() * (weight * length_a + rest * length_b)
    return merged
