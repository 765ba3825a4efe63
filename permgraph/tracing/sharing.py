"""Tensors of a model that share their memory: what is loaded into one is loaded into the other."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from itertools import combinations

import torch
from torch import Tensor

from permgraph.errors import CaptureError


def one_tensor(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Every key -> the first key of the same tensor: the same object, or the same memory with the same strides.

    Raises CaptureError, naming both, if two tensors share only a part of their memory, or all of it in another shape or
    order: no group can move them separately, and none that moves them together is derived.
    """
    first: dict[Hashable, str] = {}
    names = {key: first.setdefault(_region(tensor), key) for key, tensor in state.items()}
    apart = {key: tensor for key, tensor in state.items() if names[key] == key}
    for a, b in _overlapping(apart):
        raise CaptureError(
            f"{a} and {b} share memory, but not as one tensor: what is loaded into one changes the other. Give {b} a "
            "memory of its own, by detach().clone(), or compute it from the other in the forward pass"
        )
    return names


def aliases(constants: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, str]:
    """Constant -> the state-dict key that shares its memory. Raises CaptureError if they share only a part of it."""
    keys = {_region(tensor): key for key, tensor in state.items()}
    by_storage = _by_storage(state)
    found = {}
    for name, tensor in constants.items():
        if (region := _region(tensor)) in keys:
            found[name] = keys[region]
            continue
        for key in by_storage.get(_storage(tensor) or 0, ()):
            if _meet(state[key], tensor):
                raise CaptureError(
                    f"{name}, which is not part of the state dict, shares memory with {key} and changes when weights "
                    f"are loaded: compute it from {key} in the forward pass"
                )
    return found


def _storage(tensor: Tensor) -> int | None:
    """What identifies the memory of a tensor that has any."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    return int(tensor.untyped_storage()._cdata)


def _region(tensor: Tensor) -> Hashable:
    """A key that is equal for two tensors that are the same."""
    storage = _storage(tensor)
    if storage is None:
        return id(tensor)
    return storage, tensor.dtype, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _by_storage(tensors: Mapping[str, Tensor]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if (storage := _storage(tensor)) is not None:
            found.setdefault(storage, []).append(name)
    return found


def _overlapping(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Pairs of tensors that have an element in common."""
    for names in _by_storage(tensors).values():
        for a, b in combinations(names, 2):
            if _meet(tensors[a], tensors[b]):
                yield a, b


def _meet(a: Tensor, b: Tensor) -> bool:
    (low_a, high_a), (low_b, high_b) = _span(a), _span(b)
    if high_a <= low_b or high_b <= low_a:
        return False
    if a.dtype != b.dtype:
        return True
    low, high = min(a.storage_offset(), b.storage_offset()), max(high_a, high_b) // a.itemsize
    taken = torch.zeros(high - low, dtype=torch.bool, device="cpu")
    taken.as_strided(a.shape, a.stride(), a.storage_offset() - low).fill_(True)
    return bool(taken.as_strided(b.shape, b.stride(), b.storage_offset() - low).any())


def _span(tensor: Tensor) -> tuple[int, int]:
    """The bytes of the storage between the first and the last element."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    return start * tensor.itemsize, (start + last + 1) * tensor.itemsize
