"""Example inputs as a model takes them: a tuple of arguments, on the model's device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.errors import CaptureError


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter; the CPU for a model without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def moved(inputs: Any, device: torch.device) -> Any:
    """The same inputs with every tensor on `device`."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), inputs)


def as_args(args: Any) -> tuple[Any, ...]:
    """Positional inputs as a tuple; a tensor alone is the only one. Raises CaptureError for anything else."""
    if isinstance(args, Tensor):
        return (args,)
    if not isinstance(args, tuple | list):
        raise CaptureError(
            f"args is a tensor or a tuple of arguments, not a {type(args).__name__}: put it in a tuple, an array as a "
            "tensor (torch.from_numpy), and keywords in kwargs="
        )
    return tuple(args)
