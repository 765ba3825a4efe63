"""Is a pair of layers between which a table moves scales right? Scales are moved, and outputs compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.mappings.entries import Pair, layer_of

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from smoothing import smoothed

OUTCOMES = ("right", "wrong", "packed", "unclear", "unused", "skipped", "no weight", "not matched")
TOLERANCE = 1e-6


def outcome(model: nn.Module, run: Any, pair: Pair) -> str:
    """ "right" or "wrong" by the proof; "skipped" where sizes do not fit and the tool leaves the pair out."""
    source, readers = pair
    weights = [getattr(model.get_submodule(name), "weight", None) for name in (source, *readers)]
    if any(weight is None for weight in weights):
        return "no weight"
    columns = weights[1].shape[1:2]
    sizes = {weight.shape[1:2] for weight in weights[1:]}
    if len(sizes) > 1 or not columns or columns[0] > weights[0].shape[0]:
        return "skipped"
    if source.endswith(".v_proj") and weights[0].shape[0] != columns[0]:
        return "skipped"
    s = torch.rand(columns[0], dtype=torch.float64) + 0.5
    state = smoothed(model, source, readers, s)
    if run(smoothed(model, source, (), s)) < TOLERANCE:
        return "unused"
    if run(state) < TOLERANCE:
        return "right"
    if weights[0].dim() == 1:  # a norm that multiplies by 1 + weight, which the tool knows
        state[f"{source}.weight"] = (1 + weights[0].detach()) / s - 1
        if run(state) < TOLERANCE:
            return "right"
    if len({name.rpartition(".")[0] for name in readers}) > 1:
        return "unclear"
    return "packed" if _is_packed(model, layer_of(source)) else "wrong"


def _is_packed(model: nn.Module, layer: str) -> bool:
    """Whether a layer has matrices side by side in one parameter, other than kernels of convolutions."""
    parts = [
        part
        for name, part in model.named_modules()
        if name.startswith(layer) and not type(part).__name__.startswith("Conv")
    ]
    return any(parameter.dim() > 2 for part in parts for parameter in part.parameters(recurse=False))


def runner(model: nn.Module, args: Any, kwargs: Any) -> Any:
    """State dict -> |f(θ') - f(θ)| / |f(θ)|."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, (args, kwargs))

    def outputs() -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad():
            leaves = pytree.tree_leaves(model(*args, **kwargs))
        return [x.double() for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]

    before, own = outputs(), {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def run(state: dict[str, Tensor]) -> float:
        model.load_state_dict(state)
        after = outputs()
        model.load_state_dict(own)
        return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(before, after, strict=True))

    return run
