"""Random operations that draw from a separate generator, so that the process's own generator is not changed."""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, random operations of this thread draw from one seed."""

    def __init__(self, device: torch.device, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.seed = device, seed

    @cached_property
    def generator(self) -> torch.Generator:
        """The generator that all operations draw from in turn."""
        return torch.Generator("cpu" if self.device.type == "meta" else self.device).manual_seed(self.seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if not is_random(func):
            return func(*args, **kwargs)
        packet = func.overloadpacket
        if packet is torch.ops.aten.native_dropout:
            return self._dropout(*args, **kwargs)
        if _takes_generator(func):
            return func(*args, **kwargs | {"generator": self.generator})
        if any(_takes_generator(getattr(packet, name)) for name in packet.overloads()):
            return packet(*args, **kwargs, generator=self.generator)
        return func(*args, **kwargs)  # fused attention, which draws nothing without dropout

    def _dropout(self, x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
        keep = torch.ones_like(x, dtype=torch.bool)
        if train is False or p == 0:
            return x.clone(), keep
        keep.bernoulli_(1 - p, generator=self.generator)
        return x * keep / (1 - p) if p < 1 else torch.zeros_like(x), keep


@cache
def is_random(target: Any) -> bool:
    """Whether an operation may draw random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def _takes_generator(overload: Any) -> bool:
    return any(argument.name == "generator" for argument in overload._schema.arguments)
