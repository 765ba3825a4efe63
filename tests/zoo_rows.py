"""What a row of the zoo is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import lgamma, log
from typing import Any

from torch import nn


def L(n: int) -> float:
    """log10(n!)."""
    return lgamma(n + 1) / log(10)


@dataclass(frozen=True)
class Case:
    """A model in eval mode with example inputs."""

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A model of the zoo.

    `order` is log10 of the order of its group. `tolerance` bounds the relative error of the model itself under an
    element of the group: 1e-9 in float64, and 1e-4 where a model computes in float32 whatever it is given.
    """

    name: str
    build: Callable[[], Case]
    order: float
    outputs: str = "fixed"
    slow: bool = False
    tolerance: float = 1e-9
    known_gap: str = ""
