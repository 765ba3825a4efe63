"""Builders of the cases of `zoo`: chains of layers, and the inputs that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import zoo_nets as nets
from torch import nn
from zoo_rows import Case


def net(model: Callable[[], nn.Module], *shapes: tuple[int, ...], **named: tuple[int, ...]) -> Callable[[], Case]:
    """A builder of a case with normal inputs of these shapes."""

    def build() -> Case:
        torch.manual_seed(0)
        kwargs = {name: torch.randn(shape) for name, shape in named.items()}
        return Case(model().eval(), tuple(torch.randn(shape) for shape in shapes), kwargs)

    return build


def chain(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A sequential model, built anew on every call."""
    return lambda: nn.Sequential(*(layer() for layer in layers))


def ids(model: Callable[[], nn.Module], shape: tuple[int, ...], vocabulary: int) -> Callable[[], Case]:
    """A builder of a case with token ids."""

    def build() -> Case:
        torch.manual_seed(0)
        return Case(model().eval(), (torch.randint(vocabulary, shape),))

    return build


IMAGE, SEQUENCE, VECTOR = (2, 3, 8, 8), (2, 5, 3), (4, 5)


def images(*layers: Callable[[], nn.Module]) -> Callable[[], Case]:
    """A chain on images."""
    return net(chain(*layers), IMAGE)


def vectors(*layers: Callable[[], nn.Module]) -> Callable[[], Case]:
    """A chain on vectors."""
    return net(chain(*layers), VECTOR)


def linear(*size: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(*size)


def conv(*size: int, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*size, **options)


def head(channels: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*nets.pooled(channels))


def normed(channels: int) -> Callable[[], nn.Module]:
    return lambda: nn.BatchNorm2d(channels)


def do(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], nn.Module]:
    return lambda: nets.Apply(function)


RELU = nn.ReLU
