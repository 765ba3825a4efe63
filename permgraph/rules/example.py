"""A small call of an operation, which judges the operation's rule (`permgraph.judging`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Example:
    """A call of `op`: `function` on normal tensors of these shapes, or on the tensors given.

    The group of the call acts on its floating-point operands. `note` distinguishes calls with the same operands.
    """

    op: str
    function: Callable[..., Any]
    operands: tuple[tuple[int, ...] | Tensor, ...]
    note: str = ""

    def __str__(self) -> str:
        shapes = ", ".join(str(list(x.shape) if isinstance(x, Tensor) else list(x)) for x in self.operands)
        return f"{self.op}({shapes})" + (f" {self.note}" if self.note else "")
