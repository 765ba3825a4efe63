"""Networks for tests of weight matching, and planted pairs of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import permgraph as pg


class ResidualMLP(nn.Module):
    """x + block(x), with one input: the residual stream is told apart by little else than the blocks."""

    def __init__(self, blocks: int, width: int, hidden: int, inputs: int = 1) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(inputs, width), nn.Linear(width, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for _ in range(blocks)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1) if parameter.dim() > 1 else nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class GroupedConv(nn.Module):
    """Both channel axes of a grouped convolution are parts of one group axis: the stream is on one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv1d(2, 12, 1), nn.Conv1d(12, 2, 1)
        self.conv = nn.Conv1d(12, 12, 3, padding=1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + torch.relu(x + self.conv(x)))


class Square(nn.Module):
    """A square weight on the residual stream: one group twice on one tensor."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed, self.square, self.head = nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + torch.tanh(x + self.square(x)))


def pair(model: nn.Module, x: Tensor, noise: float = 0.0, seed: int = 0):
    """The specification, A's weights, those of a planted and noisy B, and the element that moves B back."""
    spec = pg.derive(model.eval(), (x,))
    a = model.state_dict()
    torch.manual_seed(seed)
    b = {k: v + noise * v.std(correction=0) * torch.randn_like(v) for k, v in a.items()}
    element = spec.sample(seed + 1)
    return spec, a, spec.apply(element, b), spec.invert(element)


def residual(blocks: int, noise: float, seed: int = 0, width: int = 30, hidden: int = 50):
    torch.manual_seed(seed)
    return pair(ResidualMLP(blocks, width, hidden), torch.randn(4, 1), noise, seed)


def recovered(found, wanted) -> float:
    return float(np.mean([(found[name] == table).mean() for name, table in wanted.items()]))


SELF_MEETING = {"square": (Square, (4, 2)), "grouped convolution": (GroupedConv, (2, 2, 9))}


class Tied(nn.Module):
    """W[n, n] on one stream, used as it is and transposed: one group twice on one tensor, and a Gram matrix of it."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.embed, self.weight = nn.Linear(2, width), nn.Parameter(torch.randn(width, width))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + torch.tanh(x @ self.weight @ self.weight.T))
