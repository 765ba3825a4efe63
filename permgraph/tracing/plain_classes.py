"""What a model takes or returns that PyTorch cannot trace: dataclasses are registered, caches left out."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


def holds_caches(value: Any) -> bool:
    """Whether a result of a model has a cache of keys and values in it."""
    return any(map(_is_cache, pytree.tree_leaves(value)))


@contextmanager
def without_caches(model: nn.Module) -> Iterator[None]:
    """Inside the context a model returns None for each cache: what it would read at the next token is no result."""
    before, forward = vars(model).get("forward"), model.forward

    @functools.wraps(forward)
    def shorter(*args: Any, **kwargs: Any) -> Any:
        return pytree.tree_map(lambda leaf: None if _is_cache(leaf) else leaf, forward(*args, **kwargs))

    vars(model)["forward"] = shorter
    try:
        yield
    finally:
        del vars(model)["forward"]
        if before is not None:
            vars(model)["forward"] = before


def _is_cache(value: Any) -> bool:
    caches = sys.modules.get("transformers.cache_utils")
    return caches is not None and isinstance(value, caches.Cache)
