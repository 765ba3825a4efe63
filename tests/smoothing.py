"""What a quantisation tool does to a smooth layer and its balance layers, knowing modules and nothing of groups."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


def smoothed(model: nn.Module, smooth: str, balance: Iterable[str], s: Tensor) -> dict[str, Tensor]:
    """The state dict with the last rows of one layer, and its bias, divided by s, and columns of others multiplied."""
    state = dict(model.state_dict())
    for name in ("weight", "bias"):
        key = f"{smooth}.{name}"
        if state.get(key) is not None:
            state[key] = state[key].clone()
            rows = _rows_first(model.get_submodule(smooth), state[key])[-len(s) :]
            rows /= s.reshape(-1, *[1] * (rows.dim() - 1))
    for layer in balance:
        key = f"{layer}.weight"
        state[key] = state[key].clone()
        columns = _rows_first(model.get_submodule(layer), state[key]).transpose(0, 1)
        columns *= s.reshape(-1, *[1] * (columns.dim() - 1))
    return state


def _rows_first(module: nn.Module, weight: Tensor) -> Tensor:
    """A weight as (out, in, ...); `Conv1D` of transformers, and transposed convolutions, store it as (in, out, ...)."""
    turned = type(module).__name__ == "Conv1D" or isinstance(module, nn.modules.conv._ConvTransposeNd)
    return weight.transpose(0, 1) if turned and weight.dim() > 1 else weight
