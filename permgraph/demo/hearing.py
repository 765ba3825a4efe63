"""What a healed merge is to learn from both parents: all that both of them hear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

RIDGE = 1e-3
"""Of the mean variance of the features that are read from."""


@dataclass
class Heard:
    """1 - R² of both parents' hidden states as a linear function of the merge's, mean over layers.

    The linear function is that of least squares with a ridge, solved anew on each batch, so that the loss is small
    where a linear probe of the merge can tell what a probe of either parent can. Targets have unit variance. Solved in
    float32, also where the encoders run in less by `torch.autocast`.
    """

    parents: tuple[nn.Module, nn.Module]
    _known: dict[int, tuple[Tensor, list[Tensor]]] = field(default_factory=dict, repr=False)
    """By the address of the audio, which is kept, so that no other audio gets its address: audio and targets."""

    def __call__(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        """The loss of a merge's outputs on a batch."""
        targets = self.targets(batch)
        with torch.autocast(targets[0].device.type, enabled=False):
            own = [standardised(states) for states in outputs.hidden_states]
            losses = [unexplained(x, y) for x, y in zip(own, targets, strict=True)]
            return torch.stack(losses).mean()

    def targets(self, batch: Mapping[str, Any]) -> list[Tensor]:
        """[batch * time, 2 * channels] of each layer, computed once for each batch."""
        audio = batch["input_values"]
        if audio.data_ptr() not in self._known:
            with torch.no_grad():
                both = [parent(**batch).hidden_states for parent in self.parents]
            heard = [torch.cat([standardised(states) for states in layer], dim=1) for layer in zip(*both, strict=True)]
            self._known[audio.data_ptr()] = audio, heard
        return self._known[audio.data_ptr()][1]


def standardised(states: Tensor) -> Tensor:
    """[batch, time, channels] -> [batch * time, channels] of mean 0 and variance 1, in float32."""
    rows = states.flatten(0, 1).float()
    return (rows - rows.mean(0)) / (rows.std(0) + 1e-5)


def unexplained(x: Tensor, y: Tensor) -> Tensor:
    """min over W of (|y - x W|² + ridge |W|²) / |y|²."""
    gram = x.T @ x
    gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    cross = x.T @ y
    share: Tensor = 1 - (cross * torch.linalg.solve(gram, cross)).sum() / y.square().sum()
    return share
