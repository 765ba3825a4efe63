"""What training frameworks put around a model: what is refused, and what to give instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from permgraph.errors import CaptureError

INSTEAD = {
    "ScriptModule": "it is compiled by TorchScript: give the Python model that it was made of",
    "FullyShardedDataParallel": "its weights are in shards: gather them and load them into the plain model",
    "FSDPModule": "its weights are in shards: gather them and load them into the plain model",
    "DeepSpeedEngine": "give engine.module, with its weights gathered",
    "PeftModel": "its adapter is beside the weights: give model.merge_and_unload()",
}
HOLDERS = ("model", "module")


def require_plain(model: Any) -> nn.Module:
    """`model` if it is a module that holds its own weights.

    A model behind `torch.compile` or data parallelism, and one that `accelerate` prepared, pass. Raises CaptureError
    for a trainer, sharded, offloaded and quantized weights and unmerged adapters, each with what to give instead.
    """
    if not isinstance(model, nn.Module):
        held = next((name for name in HOLDERS if isinstance(getattr(model, name, None), nn.Module)), "")
        cure = f"give its .{held}" if held else "wrap it in one"
        if isinstance(model, str | Mapping | os.PathLike):
            cure = "give pg.load(folder)" if not isinstance(model, Mapping) else "load it into its model"
        raise CaptureError(f"a model is a torch.nn.Module, not {type(model).__name__}; {cure}")
    for kind in type(model).__mro__:
        if kind.__name__ in INSTEAD:
            raise CaptureError(f"{type(model).__name__} cannot be traced as it is: {INSTEAD[kind.__name__]}")
    lazy = [name for name, tensor in model.state_dict(keep_vars=True).items() if is_lazy(tensor)]
    if lazy:
        raise CaptureError(f"{type(model).__name__} has no shape yet for {lazy[0]}: call it once on a batch")
    for path, part in model.named_modules():
        if "quantized" in type(part).__module__.split("."):
            raise CaptureError(f"{path or type(model).__name__} is quantized: give the model in floating point")
        if getattr(getattr(part, "_hf_hook", None), "offload", False):
            raise CaptureError(
                f"the weights of {path or type(model).__name__} are offloaded by accelerate: load the model whole, "
                "without a device_map"
            )
    if getattr(model, "is_quantized", False):
        raise CaptureError(f"{type(model).__name__} is quantized: give the model in floating point")
    return model
