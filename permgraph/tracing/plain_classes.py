"""Registers dataclasses that a model takes or returns with PyTorch, which cannot trace unregistered ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def called(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result of a model, with its buffers and inputs unchanged, even if it writes to them."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    own = pytree.tree_map_only(Tensor, Tensor.clone, (args, dict(kwargs)))
    with torch.no_grad():
        return torch.func.functional_call(model, buffers, *own)


def register_classes(value: Any) -> bool:
    """Register every dataclass in `value` whose fields PyTorch does not know; returns whether there was one."""
    found = False
    for leaf in pytree.tree_leaves(value):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
            found = True
            register_classes([getattr(leaf, field.name) for field in fields(leaf)])
    return found
