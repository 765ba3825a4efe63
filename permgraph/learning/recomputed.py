"""Weights that the backward pass computes again, so that none is kept until then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint


class Recomputed:
    """`weight(name)`, differentiable; what its computation and the operations that read it need is not kept.

    The backward pass calls `weight` again, which must return the same tensor. An operation that keeps a copy of a
    weight, such as a conversion to another dtype, keeps it.
    """

    def __init__(self, weight: Callable[[str], Tensor]) -> None:
        self.weight = weight
        self.alive: dict[int, str] = {}

    def __call__(self, name: str) -> Tensor:
        """The weight of a name."""
        made: Tensor = checkpoint(self.weight, name, use_reentrant=False)
        place = made.untyped_storage().data_ptr()
        self.alive[place] = name
        finalize(made, self.alive.pop, place, None)
        return made

    def saving(self) -> AbstractContextManager[Any]:
        """A context for the forward pass: of a weight that an operation needs later, the name alone is saved."""
        return saved_tensors_hooks(self._packed, self._unpacked)

    def _packed(self, tensor: Tensor) -> Any:
        name = self.alive.get(tensor.untyped_storage().data_ptr())
        return tensor if name is None else (name, tensor.shape, tensor.stride(), tensor.storage_offset())

    def _unpacked(self, packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        name, *view = packed
        with torch.no_grad():
            return self.weight(name).as_strided(*view)
