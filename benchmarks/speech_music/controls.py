"""What alignment has to beat: B moved at random, B scrambled, noise like B.

A control has the shape and the scale of B' and none of its information about A. If one does as well as an aligned B,
then the gain is a perturbation's, not the alignment's.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

import permgraph as pg
from permgraph.matching.groups import select


def random_valid(spec: pg.PermutationSpec, roles: Sequence[str], seed: int) -> pg.Permutations:
    """A uniformly random element of the groups of `roles`: B computes what it did, in an order unrelated to A's."""
    element = spec.sample(seed)
    chosen = {group.name for group in select(spec, list(roles))}
    return pg.Permutations({**spec.identity(), **{name: element[name] for name in chosen}})


def scrambled(spec: pg.PermutationSpec, state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Every tensor of B under a random element of its own, so that no two fit: B's weights, no longer B's function."""
    moved = {}
    for name, tensor in state.items():
        own = spec.sample(seed * 1_000_003 + zlib.crc32(name.encode()) % 1_000_003)
        moved[name] = spec.apply_one(own.tables, name, tensor)
    return moved


def noise(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Normal noise with the mean and the deviation of each of B's tensors, so with the norm of each."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: _like(tensor, generator) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in state.items()
    }


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    deviation = tensor.std() if tensor.numel() > 1 else 0.0
    return tensor.mean() + deviation * torch.randn(tensor.shape, generator=generator)
