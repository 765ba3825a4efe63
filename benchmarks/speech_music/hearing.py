"""Both encoders side by side: the bound from above of what a merge of them can hear."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Together(nn.Module):
    """Both encoders, their hidden states side by side: what a probe could tell with twice the features."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, audio: Tensor, **options: Any) -> Any:
        """The output of A; its hidden states A's and then B's, [batch, time, 2 * channels], zeros in the other's half.

        So a probe weighs the layers of each encoder by themselves.
        """
        first, second = self.a(audio, **options), self.b(audio, **options)
        left = (nn.functional.pad(states, (0, states.shape[-1])) for states in first.hidden_states)
        right = (nn.functional.pad(states, (states.shape[-1], 0)) for states in second.hidden_states)
        first.hidden_states = (*left, *right)
        return first
