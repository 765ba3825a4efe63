"""How much of both parents' hidden states is a linear function of a merge's, on audio that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from benchmarks.speech_music.pair import Calibration, Encoders
from permgraph.demo.hearing import RIDGE

SECONDS = {"train": 240, "heldout": 120}
"""Of the audio on which the linear maps are fitted, and of that on which they are judged."""
Layers = list[Tensor]
"""The hidden states of each layer, [windows, frames, channels]."""
Squares = list[list[list[list[float]]]]
"""Layer, parent (A, B) -> the squares that are left in each window of held-out audio, and those that there are."""


@torch.inference_mode()
def states(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> Layers:
    """All hidden states of a model, those behind the convolutions first."""
    found = [model(**batch, output_hidden_states=True).hidden_states for batch in batches]
    return [torch.cat(layer) for layer in zip(*found, strict=True)]


def squares(x: Tensor, y: Tensor, x_heard: Tensor, y_heard: Tensor) -> list[list[float]]:
    """[|y - x W|², |y|²] in each held-out window; W (with a ridge), means and variances are of `x` and `y`."""
    fitted, target = x.flatten(0, 1), y.flatten(0, 1)
    (x_mean, x_scale), (y_mean, y_scale) = ((rows.mean(0), rows.std(0) + 1e-5) for rows in (fitted, target))
    fitted, target = (fitted - x_mean) / x_scale, (target - y_mean) / y_scale
    gram = fitted.T @ fitted
    gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    weights = torch.linalg.solve(gram, fitted.T @ target)
    heard, wanted = (x_heard - x_mean) / x_scale, (y_heard - y_mean) / y_scale
    return [part.square().sum((1, 2)).tolist() for part in (wanted - heard @ weights, wanted)]


class Parents:
    """Both parents' hidden states on the audio of their pair's domain."""

    def __init__(self, pair: Encoders, seconds: Mapping[str, int] = SECONDS) -> None:
        base = pair.calibration
        audio = (Calibration(base.domain, length, base.corpus, split) for split, length in seconds.items())
        self.audio = [list(one.batches()) for one in audio]
        self.states = [self.of(model) for model in (pair.a, pair.b)]

    def of(self, model: nn.Module) -> Sequence[Layers]:
        """A model's states on the audio to fit on, and on held-out audio."""
        return [states(model, batches) for batches in self.audio]

    def squares(self, model: nn.Module) -> Squares:
        """Those of the parents' states that no linear map of the model's states of the same layer gives."""
        own, heard = self.of(model)
        return [
            [squares(x, parent[0][k], x_heard, parent[1][k]) for parent in self.states]
            for k, (x, x_heard) in enumerate(zip(own, heard, strict=True))
        ]
