"""Models of full size without training: random weights in which every unit differs from every other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)
SPREAD = 0.02


def with_random_weights(make: Callable[[], Model], seed: int) -> Model:
    """A new model in eval mode, with noise on all weights, also on biases and norms, which begin as all 0 or all 1."""
    torch.manual_seed(seed)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(SPREAD * torch.randn_like(parameter))
    return model
