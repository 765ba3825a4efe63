"""How far weights are from doing what both parents do on average: one batch, differentiable by the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from permgraph.comparing.batches import Batch
from permgraph.comparing.calibration import Calibration
from permgraph.learning.objective import Loss, Objective
from permgraph.tracing.run import Runner, bind


@dataclass(frozen=True)
class Between:
    """The objective of weights between two parents.

    Attributes:
        calibration: the programs and the batches.
        parents: the weights of both parents, in the space of the merge.
        loss: see `Loss`.
        share: what A counts of the mean of both parents' outputs.

    """

    calibration: Calibration
    parents: Sequence[Mapping[str, Tensor]]
    loss: Loss = None
    share: float = 0.5

    def __post_init__(self) -> None:
        objective = Objective(self.calibration.program, self.loss)
        if objective.needs_parents:
            objective.leaves  # noqa: B018 - outputs that cannot be compared are told of before the work

    @property
    def size(self) -> int:
        """How many outputs the first batch has."""
        return Objective(self.calibration.program, self.loss).size

    def __call__(
        self,
        weights: Callable[[str], Tensor],
        batch: Batch,
        moved: Callable[[Sequence[Any]], Sequence[Any]] = lambda outputs: outputs,
    ) -> Tensor:
        """The loss of these weights on a batch; `moved` takes the second parent's outputs to their places.

        What the parents do is a target, and is not differentiated.
        """
        program = self.calibration.models.program(batch)
        inputs, objective = bind(program, *batch), Objective(program, self.loss, self.share)
        targets: list[Sequence[Any]] = []
        if objective.needs_parents:
            a, b = (self.calibration.runner(program, state).outputs(inputs) for state in self.parents)
            with torch.no_grad():
                targets = [a, moved(b)]
        runner = Runner(program, weights, self.calibration.dtype, gradients=torch.is_grad_enabled())
        return objective(runner.outputs(inputs), targets, inputs, batch)
