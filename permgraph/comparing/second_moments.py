"""Streamed second moments of the inputs of the layers of two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from permgraph.comparing.calibration import Calibration
from permgraph.comparing.frames import kept_rows
from permgraph.comparing.layers import AffineLayer, Layers, Sliding, find_layers
from permgraph.errors import CalibrationError

MOST = 2**25
"""Elements of a matrix of patches that is multiplied at once."""


@dataclass
class SecondMoments:
    """Sums over frames of x xᵀ, x = (inputs of a layer, 1): of A, of B moved to A, and of A with B.

    Each is float64 [groups, n, n].
    """

    a: Tensor
    b: Tensor
    ab: Tensor
    frames: int = 0

    def without_bias(self) -> SecondMoments:
        """The moments of the inputs alone."""
        return SecondMoments(self.a[:, :-1, :-1], self.b[:, :-1, :-1], self.ab[:, :-1, :-1], self.frames)


Source = tuple[str, Sliding | None]


def gather(calibration: Calibration) -> tuple[Layers, dict[str, SecondMoments]]:
    """The layers, and for each weight the moments of all its layers' inputs; one pass over the data, no padding.

    Products are formed in the models' dtype (float32 or wider) and added in float64. Layers that read one activation,
    such as three projections of attention, share one set. Memory: 24 n² bytes a set, n the inputs of a layer.
    Raises CalibrationError where an activation is not finite.
    """
    layers = find_layers(calibration.program)
    sources = {weight: tuple((use.source, use.sliding) for use in uses) for weight, uses in layers.found.items()}
    wanted: dict[str, dict[tuple[Source, ...], AffineLayer]] = {}
    for weight, places in sources.items():
        for use in layers.found[weight]:
            wanted.setdefault(use.source, {})[places] = use
    found: dict[tuple[Source, ...], SecondMoments] = {}
    for node, (a, b) in calibration.batch_by_batch(wanted, "second moments"):
        for places, use in wanted[node].items():
            for rows_a, rows_b in pieces(use, (a.value, b.value), a.mask):
                _add(found, places, rows_a, rows_b)
    for places, one in found.items():
        if not all(bool(m.isfinite().all()) for m in (one.a, one.b)):
            raise CalibrationError(f"the activations at {places[0][0]} are not finite; check the data and the weights")
    return layers, {weight: found[places] for weight, places in sources.items()}


def pieces(use: AffineLayer, inputs: Sequence[Tensor], mask: Tensor | None) -> Iterator[list[Tensor]]:
    """[groups, frames, in + 1] of each input: its rows and a one, padding left out; patches of a few samples a time."""
    kernel = 0 if use.sliding is None else torch.Size(use.sliding.kernel).numel()
    step = max(1, MOST // max(1, inputs[0][0].numel() * kernel)) if kernel else len(inputs[0])
    for first in range(0, len(inputs[0]), step):
        part = slice(first, first + step)
        rows = [use.rows(x[part]) for x in inputs]
        keep = kept_rows(None if mask is None else mask[part] if kernel else mask, rows[0].shape[1])
        rows = rows if keep is None else [x[:, keep] for x in rows]
        yield [torch.cat([x, x.new_ones(*x.shape[:2], 1)], dim=2) for x in rows]


def _add(found: dict[tuple[Source, ...], SecondMoments], key: tuple[Source, ...], a: Tensor, b: Tensor) -> None:
    products = [torch.bmm(x.transpose(1, 2), y) for x, y in ((a, a), (b, b), (a, b))]
    if key not in found:
        own_a, own_b, both = (torch.zeros_like(p, dtype=torch.float64) for p in products)
        found[key] = SecondMoments(own_a, own_b, both)
    one = found[key]
    for total, product in zip((one.a, one.b, one.ab), products, strict=True):
        total += product
    one.frames += a.shape[1]
