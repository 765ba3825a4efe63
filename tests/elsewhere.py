"""A GPU that is not there: tensors that say they are on it are computed on the CPU, and refused beside the CPU's own.

What PyTorch lets a GPU's tensors do beside those of the CPU is let here too: a CPU tensor without dimensions, indices,
and copies from one to the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda:0")
MAY_MIX = {"aten.copy_", "aten._to_copy", "aten.index", "aten.index_put", "aten.index_put_", "aten._index_put_impl_"}


class OnGpu(Tensor):
    """`held` is where the numbers are. The methods below are those that ask for a driver before they are dispatched."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        made: OnGpu = Tensor._make_wrapper_subclass(cls, held.shape, held.stride(), dtype=held.dtype, device=GPU)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnGpu({self.held!r})"

    def __getitem__(self, index: Any) -> OnGpu:
        return OnGpu(self.held[held(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.held[held(index)] = held(value)

    def contiguous(self, *args: Any, **kwargs: Any) -> OnGpu:
        return OnGpu(self.held.contiguous(*args, **kwargs))

    def copy_(self, source: Any, *args: Any) -> OnGpu:
        self.held.copy_(held(source), *args)
        return self

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __deepcopy__(self, memo: Any) -> OnGpu:
        return OnGpu(self.held.clone())


class Gpu(TorchDispatchMode):
    """Constructors that name the GPU make tensors on it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = pytree.tree_leaves((args, kwargs))
    there = [x for x in leaves if isinstance(x, OnGpu)]
    here = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnGpu) and x.dim()]
    named = kwargs.get("device")
    if there and here and str(func.overloadpacket) not in MAY_MIX:
        raise RuntimeError(f"{func}: all tensors must be on one device, and {len(here)} of them are on the CPU")
    args, kwargs = held((args, kwargs))
    if named is not None:
        kwargs["device"] = torch.device("cpu")
    result = func(*args, **kwargs)
    on_gpu = torch.device(named).type == GPU.type if named is not None else bool(there)
    return pytree.tree_map_only(Tensor, OnGpu, result) if on_gpu else result


def on_gpu(model: nn.Module) -> nn.Module:
    """The model with its parameters and buffers there."""
    for module in model.modules():
        for kept in (module._parameters, module._buffers):
            kept.update({name: OnGpu(tensor.detach()) for name, tensor in kept.items() if tensor is not None})
    return model


def held(value: Any) -> Any:
    """The same with what is there on the CPU."""
    return pytree.tree_map_only(OnGpu, lambda x: x.held, value)
