"""Small models with units to remove: how large each is, which layer's rows are the units, and how to mute them by hand.

A muted model computes, at its whole size, what a model without the units has to compute: their outgoing weights are 0,
or, where units are normalised together, those that go are doubles of those that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Heads of 8 dims, as many as the weights have; each key-value head serves `shared` heads of queries."""

    def __init__(self, heads: int, shared: int = 1) -> None:
        super().__init__()
        self.shared = shared
        self.q, self.o = nn.Linear(32, 8 * heads * shared), nn.Linear(8 * heads * shared, 32)
        self.k, self.v = nn.Linear(32, 8 * heads), nn.Linear(32, 8 * heads)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 8)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        k, v = (one.repeat_interleave(self.shared, 1) for one in (k, v))
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
        return x + self.o(mixed.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """A gated feed-forward layer on a stream with a norm."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm, self.gate, self.up = nn.LayerNorm(16), nn.Linear(16, hidden), nn.Linear(16, hidden)
        self.down = nn.Linear(hidden, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


class Skips(nn.Module):
    """Layers whose outputs are concatenated, as in DenseNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, width, 3, padding=1)
        self.last = nn.Conv2d(8 + width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.last(torch.cat([h, self.second(h).relu()], 1))


@dataclass(frozen=True)
class Row:
    """A model of a size, and `units` of `layer` to remove, each of `width` rows."""

    name: str
    build: Callable[[int], nn.Module]
    size: int
    inputs: Sequence[int]
    layer: str
    units: Sequence[int]
    mute: Callable[[nn.Module], None]
    width: int = 1

    @property
    def rows(self) -> list[int]:
        """The rows of the layer that are the units."""
        return [unit * self.width + k for unit in self.units for k in range(self.width)]


def columns(layer: str, *which: int, dim: int = 1) -> Callable[[nn.Module], None]:
    """Mutes units by the columns of the layer that reads them."""

    def mute(model: nn.Module) -> None:
        with torch.no_grad():
            model.get_submodule(layer).weight.index_fill_(dim, torch.tensor(which), 0.0)

    return mute


def doubled(model: nn.Module) -> None:
    """Channels 2 and 3 of each group of four are made doubles of 0 and 1, that nothing reads."""
    keep = torch.arange(16).unflatten(0, (4, 4))[:, :2].repeat(1, 2).flatten()
    with torch.no_grad():
        for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
            tensor = model.get_parameter(name)
            tensor.copy_(tensor[keep].clone())
        model.get_parameter("3.weight")[:, [k for k in range(16) if k % 4 > 1]] = 0


def batch_norm(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 3))


def depthwise(width: int) -> nn.Module:
    middle = nn.Conv2d(width, width, 3, groups=width)
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), middle, nn.ReLU(), nn.Conv2d(width, 4, 1))


def flattened(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 4))


def transposed(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.ConvTranspose2d(width, 4, 3))


def perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 4))


def group_norm(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.GroupNorm(4, width), nn.ReLU(), nn.Conv2d(width, 4, 3))


def grouped(width: int) -> nn.Module:
    middle = nn.Conv2d(16, width, 3, groups=4)
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), middle, nn.ReLU(), nn.Conv2d(width, 4, 1))


IMAGE, TOKENS = (2, 3, 8, 8), (2, 5, 32)
HEAD_1 = tuple(range(8, 16))
LAST_HALVES = [k for k in range(16) if k % 4 > 1]
ROWS = (
    Row("hidden units", perceptron, 12, (5, 16), "0", (3, 7), columns("2", 3, 7)),
    Row("gated feed-forward", Gated, 12, (2, 5, 16), "up", (3, 7), columns("down", 3, 7)),
    Row("convolution, BatchNorm", batch_norm, 12, IMAGE, "0", (3, 7), columns("3", 3, 7)),
    Row("convolution, flatten", flattened, 8, IMAGE, "0", (3,), columns("3", *range(108, 144))),
    Row("depthwise convolution", depthwise, 8, IMAGE, "0", (3,), columns("4", 3)),
    Row("transposed convolution", transposed, 8, IMAGE, "0", (3,), columns("2", 3, dim=0)),
    Row("side by side", Skips, 8, IMAGE, "second", (3,), columns("last", 11)),
    Row("a head", Attention, 4, TOKENS, "k", (1,), columns("o", *HEAD_1), width=8),
    Row(
        "a key-value head of two",
        lambda n: Attention(n, 2),
        4,
        TOKENS,
        "k",
        (1,),
        columns("o", *range(16, 32)),
        width=8,
    ),
    Row("GroupNorm", group_norm, 16, IMAGE, "0", LAST_HALVES, doubled),
    Row("GroupNorm, all of one group", group_norm, 16, IMAGE, "0", range(4), columns("3", *range(4))),
    Row("a channel of each group", grouped, 16, IMAGE, "2", (3, 7, 11, 15), columns("4", 3, 7, 11, 15)),
)
