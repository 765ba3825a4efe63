"""An independent judge of a specification: the eager model itself, in float64, with generic parameters."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo_rows import Case

from permgraph import PermutationSpec
from permgraph.tracing.twin import drop_kept


def generic(model: nn.Module, seed: int, held: Collection[str] = ()) -> nn.Module:
    """A float64 copy with random parameters and buffers: no norm at its start, queries and keys scaled up.

    The elements of a tensor in `held` stay equal.
    """
    model = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *_running(model)]:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if tensor.dim() > 1:
            fan_in = max(tensor[0].numel(), 1)
            tensor.data = noise * max(fan_in**-0.5, tensor.data.std().item() if tensor.numel() > 1 else 0.0)
            if any(part in name for part in ("q_proj", "k_proj", "query", "key", "qkv", "in_proj", "q.", "k.")):
                tensor.data *= 2
        else:
            tensor.data = (noise.abs() + 0.2) if name.endswith("var") else 0.5 + 0.5 * noise
        if name in held:
            tensor.data = (noise[:1].abs() + 0.2).expand_as(tensor).clone()
    return model


def _running(model: nn.Module) -> list[tuple[str, Tensor]]:
    kept = model.state_dict()
    return [(name, t) for name, t in model.named_buffers() if name in kept and t.is_floating_point()]


def error(case: Case, spec: PermutationSpec, seed: int) -> float:
    """Largest difference between f(πθ) and π_out f(θ), relative to the largest output of its leaf.

    A model that draws random numbers draws the same ones both times.
    """
    model = generic(case.model, seed, spec.held)
    args, kwargs = doubled((case.args, case.kwargs))
    element = spec.sample(seed)
    with torch.no_grad():
        torch.manual_seed(seed)
        expected = spec.apply_outputs(element, model(*args, **kwargs))
        torch.manual_seed(seed)
        model.load_state_dict(spec.apply(element, model.state_dict()))
        drop_kept(model)
        return distance(expected, model(*args, **kwargs))


def doubled(inputs: Any) -> Any:
    """The same inputs in float64."""
    return pytree.tree_map_only(Tensor, _double, inputs)


def distance(expected: Any, found: Any) -> float:
    """The largest difference between two outputs of a model, relative to the largest of its leaf."""
    leaves = zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True)
    return max(_distance(a, b) for a, b in leaves)


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _distance(expected: Any, found: Any) -> float:
    if not isinstance(expected, Tensor):
        return 0.0 if expected == found else float("inf")
    a, b = expected.double(), found.double()
    assert torch.isfinite(a).all(), "an output is not finite"
    return ((a - b).abs().max() / a.abs().max().clamp(min=1e-30)).item() if a.numel() else 0.0
