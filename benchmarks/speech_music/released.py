"""The procedure of arXiv 2506.11403 with the defects of its released code, as one baseline.

Rebuilt from what the code was found to do, not copied: the moved B is not B, because

- of a convolution and of a feed-forward layer only the columns that read the moved channels are permuted; the rows
  that make them stay, and so do the norms between (first convolution, 512-wide LayerNorm);
- V's heads and the columns of the output projection move, Q's and K's heads stay;
- the attention's correlations are taken after the output projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from permgraph.comparing.moments import CrossMoments

Batches = Iterable[Mapping[str, Tensor]]
PARTS = ("conv", "feed_forward", "attention")


def measured(model: nn.Module, parts: Sequence[str]) -> dict[str, tuple[nn.Module, str]]:
    """Place of measurement -> (module whose output is compared, what it decides)."""
    places: dict[str, tuple[nn.Module, str]] = {}
    for k, layer in enumerate(model.feature_extractor.conv_layers):
        if "conv" in parts:
            places[f"conv {k}"] = (layer, "conv")
    for k, layer in enumerate(model.encoder.layers):
        if "feed_forward" in parts:
            places[f"feed_forward {k}"] = (layer.feed_forward.intermediate_dropout, "feed_forward")
        if "attention" in parts:
            places[f"attention {k}"] = (layer.attention, "attention")
    return places


@torch.inference_mode()
def correlations(a: nn.Module, b: nn.Module, batches: Batches, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Place -> signed correlations of A's and B's channels there."""
    seen: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    hooks = [
        module.register_forward_hook(_keep(into, place))
        for model, into in zip((a, b), seen, strict=True)
        for place, (module, _) in measured(model, parts).items()
    ]
    moments: dict[str, CrossMoments] = {}
    try:
        for batch in batches:
            for model in (a, b):
                model(**batch)
            for place in seen[0]:
                one, other = (_frames(into[place], place) for into in seen)
                moments.setdefault(place, CrossMoments(one.shape[1], where=place)).update(one, other)
    finally:
        for hook in hooks:
            hook.remove()
    return {place: moment.correlation() for place, moment in moments.items()}


def _keep(into: dict[str, Tensor], place: str):
    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        into[place] = output[0] if isinstance(output, tuple) else output

    return hook


def _frames(x: Tensor, place: str) -> Tensor:
    """[frames, channels]; convolutions have their channels before time."""
    return (x.transpose(1, 2) if place.startswith("conv") else x).flatten(0, 1).contiguous()


def head_order(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Channels by heads, then within heads, each the best assignment of its sums of correlations."""
    width = len(matrix) // heads
    blocks = matrix.reshape(heads, width, heads, width).swapaxes(1, 2)
    inner = [[linear_sum_assignment(-blocks[i, j])[1] for j in range(heads)] for i in range(heads)]
    values = [[blocks[i, j][np.arange(width), inner[i][j]].sum() for j in range(heads)] for i in range(heads)]
    outer = linear_sum_assignment(-np.array(values))[1]
    return np.concatenate([outer[i] * width + inner[i][outer[i]] for i in range(heads)])


def moved(a: nn.Module, b: nn.Module, batches: Batches, parts: Sequence[str] = PARTS) -> dict[str, Tensor]:
    """B's state dict as the released procedure would move it."""
    state = {name: tensor.detach().clone() for name, tensor in b.state_dict().items()}
    last = len(b.feature_extractor.conv_layers) - 1
    for place, matrix in correlations(a, b, batches, parts).items():
        kind, k = place.split()
        layer = f"encoder.layers.{k}."
        if kind == "attention":
            order = torch.from_numpy(head_order(matrix, b.config.num_attention_heads))
            for name in ("v_proj.weight", "v_proj.bias"):
                state[f"{layer}attention.{name}"] = state[f"{layer}attention.{name}"][order]
            reads = f"{layer}attention.out_proj.weight"
        else:
            order = torch.from_numpy(linear_sum_assignment(-matrix)[1])
            reads = f"{layer}feed_forward.output_dense.weight"
            if kind == "conv":
                following = f"feature_extractor.conv_layers.{int(k) + 1}.conv.weight"
                reads = following if int(k) < last else "feature_projection.projection.weight"
        state[reads] = state[reads][:, order]
    return state
