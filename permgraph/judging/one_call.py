"""One call of an operation as a module, whose operands are what a group may move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.rules.example import Example

TOLERANCE = 1e-9
Axis = tuple[str, int]
State = dict[str, Tensor]


class OneCall(nn.Module):
    """A call whose floating operands are parameters p0, p1, ..."""

    def __init__(self, example: Example, seed: int = 0) -> None:
        super().__init__()
        self.example = example
        generator = torch.Generator().manual_seed(seed)
        for k, operand in enumerate(example.operands):
            if is_free(operand):
                value = _again(operand, generator, seed) if isinstance(operand, Tensor) else operand
                if not isinstance(value, Tensor):
                    value = torch.randn(value, generator=generator, dtype=torch.float64)
                self.register_parameter(f"p{k}", nn.Parameter(value, requires_grad=False))

    def forward(self, *given: Tensor) -> Any:
        """The result of the call."""
        rest = iter(given)
        operands = [
            getattr(self, f"p{k}") if is_free(operand) else next(rest)
            for k, operand in enumerate(self.example.operands)
        ]
        return self.example.function(*operands)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The operands that are not parameters."""
        return tuple(o for o in self.example.operands if isinstance(o, Tensor) and not is_free(o))

    def results(self, state: dict[str, Tensor]) -> list[Tensor]:
        """The output leaves for these parameters; random operations draw the same numbers every time."""
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            copies = {name: value.clone() for name, value in state.items()}  # an operation may write to its operands
            found = torch.func.functional_call(self, copies, self.inputs)
        return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


def is_free(operand: tuple[int, ...] | Tensor) -> bool:
    """Whether an operand is one that a group may move."""
    return not isinstance(operand, Tensor) or operand.is_floating_point()


def _again(tensor: Tensor, generator: torch.Generator, seed: int) -> Tensor:
    """The tensor for seed 0; for another, its elements in another order, which stay in the operation's domain."""
    order = torch.randperm(tensor.numel(), generator=generator)
    return tensor if seed == 0 else tensor.flatten()[order].view(tensor.shape)


def equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Whether two lists of results agree up to rounding."""
    return all(
        x.shape == y.shape and torch.allclose(_wide(x), _wide(y), TOLERANCE, TOLERANCE, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def _wide(x: Tensor) -> Tensor:
    return x if x.is_complex() else x.double()


def subsets(items: Sequence[Axis], least: int) -> Iterator[tuple[Axis, ...]]:
    """All subsets of at least so many items, small ones first."""
    for count in range(least, len(items) + 1):
        yield from combinations(items, count)
