"""Noise that looks like signals: smooth textures, and regions with edges, of any shape."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

FIELDS = 3
"""How many fields a sample with edges is the sum of."""
PLAIN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
"""Of all that is drawn, whatever a caller's defaults are."""


def signals(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """[samples, ...]: half of the samples are textures, half have edges; mean 0, variance 1 over all of them.

    A texture has an amplitude of 1/f^p at the frequency f, over all axes of a sample, with its own p in (0, 2). One
    with edges is Σ a_k [u_k > c_k] over textures u_k with p in (1.5, 2.5), where a_k and c_k are normal. Natural images
    have both (D. L. Ruderman, 1994; A. B. Lee, D. Mumford and J. Huang, 2001).
    """
    edges = shape[0] // 2
    found = torch.cat(
        [_edges((edges, *shape[1:]), generator), _textures((shape[0] - edges, *shape[1:]), 0, 2, generator)]
    )
    tiny = torch.finfo(found.dtype).tiny
    return (found - found.mean()) / found.std(correction=0).clamp_min(tiny)


def _textures(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Noise with an amplitude of 1/f^p, p between `low` and `high`, of variance 1 in each sample."""
    axes = tuple(range(1, len(shape)))
    power = low + (high - low) * torch.rand(shape[0], *[1] * len(axes), generator=generator, **PLAIN)
    spectrum = (
        torch.fft.fftn(torch.randn(shape, generator=generator, **PLAIN), dim=axes) / _frequencies(shape[1:]) ** power
    )
    found: Tensor = torch.fft.ifftn(spectrum, dim=axes).real
    return found / found.square().mean(axes, keepdim=True).sqrt().clamp_min(torch.finfo(found.dtype).tiny)


def _frequencies(shape: tuple[int, ...]) -> Tensor:
    """The frequency of each part of a spectrum, in periods per element; of the mean, one over the longest axis."""
    squares = torch.zeros((), **PLAIN)
    for axis, size in enumerate(shape):
        along = [size if other == axis else 1 for other in range(len(shape))]
        squares = squares + torch.fft.fftfreq(size, **PLAIN).square().reshape(along)
    return squares.sqrt().clamp_min(1 / max(*shape, 1)) if prod(shape) else squares


def _edges(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    found, ones = torch.zeros(shape, **PLAIN), [1] * (len(shape) - 1)
    for _ in range(FIELDS):
        level, height = (torch.randn(shape[0], *ones, generator=generator, **PLAIN) for _ in range(2))
        found += height * (_textures(shape, 1.5, 2.5, generator) > level)
    return found
