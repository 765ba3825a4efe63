"""Merge methods: one decorated function each, with the paper it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

MergeFunction = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class MergeMethod:
    """How two tensors become one: `merge(a, b, weight)`, where `weight` is A's share."""

    name: str
    merge: MergeFunction
    reference: str


METHODS: dict[str, MergeMethod] = {}


def merge_method(name: str, *, reference: str) -> Callable[[MergeFunction], MergeFunction]:
    """Register a merge method under `name`, with the URL or arXiv number of its source."""

    def register(function: MergeFunction) -> MergeFunction:
        if name in METHODS:
            raise ValueError(f"there is a merge method {name!r} already")
        METHODS[name] = MergeMethod(name, function, reference)
        return function

    return register
