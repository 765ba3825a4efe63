"""Two models in one space with calibration data: their activations, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from permgraph.comparing.models import Pair, Progress, as_batch
from permgraph.comparing.padding import padding_masks
from permgraph.comparing.points import Point
from permgraph.errors import CalibrationError
from permgraph.symmetry.layout import Cell, Leaf
from permgraph.tracing.capture import Program
from permgraph.tracing.run import REAL, Runner, bind

T = TypeVar("T")


@dataclass
class Calibration:
    """A, B moved to A, and the batches that they are observed on; `batches` can be read again and again."""

    pair: Pair
    batches: Iterable[Any]
    progress: Progress | None = None
    _known: dict[Callable[[Calibration], Any], Any] = field(default_factory=dict, repr=False)

    def once(self, compute: Callable[[Calibration], T]) -> T:
        """`compute(self)`, kept: what does not depend on the share is observed once for all merges."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        found: T = self._known[compute]
        return found

    @cached_property
    def program(self) -> Program:
        """The program for batches of the first one's shape; nodes are named alike in all."""
        self.pair.require_one_device()
        for item in self.batches:
            return self.pair.program(*as_batch(item))
        raise CalibrationError("the calibration data is empty: give at least one batch")

    @cached_property
    def dtype(self) -> torch.dtype | None:
        """What the models run in: float32 where they are stored in less."""
        kinds = {self.pair.state_a[name].dtype for name in self.program.parameters}
        return torch.float32 if kinds & {torch.float16, torch.bfloat16} else None

    def inputs(self, stage: str) -> Iterator[tuple[Program, dict[str, Any], dict[str, Tensor]]]:
        """For each batch its program, its inputs by name, and the masks of its padding, by node."""
        for number, item in enumerate(self.batches, 1):
            args, kwargs = as_batch(item)
            program = self.pair.program(args, kwargs)
            inputs = bind(program, args, kwargs)
            _require_finite(inputs, program, number)
            yield program, inputs, padding_masks(program, inputs)
            if self.progress is not None:
                self.progress(stage, number, None)

    def runner(self, program: Program, state: Mapping[str, Tensor]) -> Runner:
        """A program with the weights of a state dict."""
        return Runner(program, state.__getitem__, self.dtype)

    def activations(self, wanted: Mapping[str, Any], stage: str) -> Iterator[tuple[str, Tensor, Tensor, Tensor | None]]:
        """(node, of A, of B, mask) for the nodes wanted, batch by batch; each is dropped when the next is asked for."""
        for program, inputs, masks in self.inputs(stage):
            runs = [self.runner(program, s).steps(inputs) for s in (self.pair.state_a, self.pair.state_b)]
            for (node, a), (_, b) in zip(*runs, strict=True):
                if node.name in wanted:
                    yield node.name, a, b, masks.get(node.name)


def kept(mask: Tensor | None, frames: int) -> Tensor | None:
    """Bool [frames]: which rows of an activation, sample after sample, hold no padding; None keeps all.

    By the rule of `Point.kept`; all are kept where a sample has but one row, or samples have no equal number.
    """
    if mask is None or frames % mask.shape[0] or frames == mask.shape[0]:
        return None
    sizes = (mask.shape[0], frames // mask.shape[0], 1)
    cell = Cell((0, 0, 0), tuple(Leaf(dim, size, 1) for dim, size in enumerate(sizes)), ())
    return Point("", sizes, cell, ("",), ((2,),)).kept(mask)


def _require_finite(inputs: Mapping[str, Any], program: Program, number: int) -> None:
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.dtype in (*REAL, torch.float64) and not bool(value.isfinite().all()):
            place = program.feeds[name].name
            raise CalibrationError(
                f"batch {number}: {place} has values that are not finite; clean the calibration data"
            )
