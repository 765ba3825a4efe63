"""Models with calibration data: their activations, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import like
from permgraph.comparing.batches import Batches, Progress
from permgraph.comparing.lockstep import Run, Stop, lockstep
from permgraph.comparing.models import Models, State
from permgraph.comparing.padding import padding_masks
from permgraph.tracing.program import Program
from permgraph.tracing.run import Runner, bind

T = TypeVar("T")


@dataclass
class Calibration:
    """Models in one space, and the batches that they are run on."""

    models: Models
    batches: Batches
    progress: Progress | None = None
    _known: dict[Callable[[Calibration], Any], Any] = field(default_factory=dict, repr=False)

    def once(self, compute: Callable[[Calibration], T]) -> T:
        """`compute(self)`, cached: what does not depend on the shares is computed once for all merges."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        found: T = self._known[compute]
        return found

    @property
    def states(self) -> tuple[State, ...]:
        """The weights of the models."""
        return self.models.states

    @cached_property
    def program(self) -> Program:
        """The program for batches of the first one's shape; nodes have the same names in all."""
        self.models.require_one_device()
        return self.models.program(self.batches.first)

    @cached_property
    def dtype(self) -> torch.dtype | None:
        """The dtype that the models run in: float32 if they are stored in less."""
        kinds = {self.states[0][name].dtype for name in self.program.parameters}
        return torch.float32 if kinds & {torch.float16, torch.bfloat16} else None

    def inputs(self, stage: str) -> Iterator[tuple[Program, dict[str, Any], dict[str, Tensor]]]:
        """For each batch its program, its inputs by name, and the masks of its padding, by node."""
        for number, batch in enumerate(self.batches, 1):
            program = self.models.program(batch)
            inputs = bind(program, *batch)
            yield program, inputs, padding_masks(program, inputs)
            if self.progress is not None:
                self.progress(stage, number, None)

    def runner(self, program: Program, state: Mapping[str, Tensor]) -> Runner:
        """A program with the weights of a state dict."""
        return Runner(program, state.__getitem__, self.dtype)

    def fitted(self, state: Mapping[str, Tensor], name: str) -> Tensor:
        """An entry of another state dict, on the device and in the dtype in which the models are run."""
        own, tensor = like(self.states[0])[name].dtype, state[name].to(self.program.device)
        return tensor.to(self.dtype or own) if own.is_floating_point else tensor.to(own)

    def batch_by_batch(self, wanted: Container[str], stage: str) -> Iterator[tuple[str, tuple[Stop, ...]]]:
        """(node, a stop in each model) for the nodes wanted, one batch after the other."""
        for program, inputs, masks in self.inputs(stage):
            yield from lockstep([Run(self.runner(program, s), inputs, masks) for s in self.states], wanted)

    def all_batches(
        self, states: Sequence[State], wanted: Container[str], stage: str
    ) -> Iterator[tuple[str, list[tuple[Stop, ...]]]]:
        """(node, for each batch a stop in each of the models with these weights), all batches at once.

        Changes to the states and at the stops affect all later operations. Memory: the live activations of all batches.
        """
        runs = [
            Run(self.runner(program, state), inputs, masks)
            for program, inputs, masks in self.inputs(stage)
            for state in states
        ]
        count = len(states)
        for name, stops in lockstep(runs, wanted):
            yield name, [stops[first : first + count] for first in range(0, len(stops), count)]
