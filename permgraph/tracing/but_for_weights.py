"""Whether two modules compute the same as far as Python decides it: equal in everything but the values of weights."""

from __future__ import annotations

import io
import pickle
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn


def equal_but_for_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether everything that a forward pass can read is equal in two modules, except the values of weights.

    Weights are the tensors of the state dict. Then `torch.export` gives one graph for both, since it refuses branches
    that weights decide. False says nothing: parts that cannot be compared count as different.
    """
    if isinstance(a, fx.GraphModule) or type(a) is not type(b):
        return False
    try:
        return _contents(a) == _contents(b)
    except Exception:  # whatever a part of it does when it is pickled
        return False


def _contents(module: nn.Module) -> bytes:
    written = io.BytesIO()
    _Pickler(written, module.state_dict(keep_vars=True)).dump(module)
    return written.getvalue()


class _Pickler(pickle.Pickler):
    """Writes weights as shapes, with what shares memory with what, and other tensors as values."""

    def __init__(self, file: io.BytesIO, weights: Mapping[str, Any]) -> None:
        super().__init__(file, protocol=5)
        self.weights = {id(value): value for value in weights.values()}
        self.memories: dict[Hashable, int] = {}

    def persistent_id(self, obj: Any) -> Any:
        """What is written in place of a tensor."""
        if not isinstance(obj, Tensor):
            return None
        place = None
        if obj.layout is torch.strided and not obj.is_meta:
            memory = self.memories.setdefault(obj.untyped_storage()._cdata, len(self.memories))
            place = memory, obj.storage_offset(), obj.stride()
        values = None
        if id(obj) not in self.weights and not obj.is_meta:
            values = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        kind = type(obj).__qualname__, str(obj.layout), str(obj.dtype), str(obj.device), obj.requires_grad
        return kind, tuple(obj.shape), place, values
