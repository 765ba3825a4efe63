"""Wrappers that training frameworks put around a model: which are refused, and what to give instead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from permgraph.errors import CaptureError

INSTEAD = {
    "ScriptModule": "it is compiled by TorchScript: give the Python model that it was made of",
    "FullyShardedDataParallel": "its weights are in shards: gather them and load them into the plain model",
    "FSDPModule": "its weights are in shards: gather them and load them into the plain model",
    "DeepSpeedEngine": "give engine.module, with its weights gathered",
    "PeftModel": "its adapter is not merged into the weights: give model.merge_and_unload()",
}
HOLDERS = ("model", "module")


def require_plain(model: Any) -> nn.Module:
    """`model` if it is a module that holds its own weights.

    A model behind `torch.compile` or data parallelism, and one that `accelerate` prepared, pass. Raises CaptureError
    for a trainer, sharded, offloaded and quantized weights and unmerged adapters, each with what to give instead.
    """
    if not isinstance(model, nn.Module):
        raise CaptureError(f"a model is a torch.nn.Module, not {type(model).__name__}; {_cure(model)}")
    for obstacle in _obstacles(model, type(model).__name__):
        raise CaptureError(obstacle)
    return model


def _cure(given: Any) -> str:
    """What to give in place of something that is no module."""
    if isinstance(given, Mapping):
        return "load it into its model"
    if isinstance(given, str | os.PathLike):
        return "give pg.load(folder)"
    held = next((name for name in HOLDERS if isinstance(getattr(given, name, None), nn.Module)), None)
    return "wrap it in one" if held is None else f"give its .{held}"


def _obstacles(model: nn.Module, name: str) -> Iterator[str]:
    """Why the weights of a module cannot be read as they are, with what to give instead."""
    for kind in type(model).__mro__:
        if kind.__name__ in INSTEAD:
            yield f"{name} cannot be traced as it is: {INSTEAD[kind.__name__]}"
    for lazy in (key for key, tensor in model.state_dict(keep_vars=True).items() if is_lazy(tensor)):
        yield f"{name} has no shape yet for {lazy}: call it once on a batch"
    for path, part in model.named_modules():
        if "quantized" in type(part).__module__.split(".") or getattr(part, "is_quantized", None) is True:
            yield f"{path or name} is quantized: give the model in floating point"
        if getattr(getattr(part, "_hf_hook", None), "offload", False):
            yield (
                f"the weights of {path or name} are offloaded by accelerate: load the model whole, without a device_map"
            )
