"""What is exported in place of a user's model: the module without its wrapper, and a copy that shares its tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, ValuesView
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.errors import CaptureError
from permgraph.tracing.forwards import PREFIX, Forwards
from permgraph.wording import described

WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}


def require_eval(model: nn.Module) -> None:
    """Raise CaptureError, naming the part, for a model of which any part is in training mode.

    A program from `torch.export` has no mode: the mode of its model is part of its graph.
    """
    if isinstance(model, torch.fx.GraphModule) and "eval" in vars(model):
        return
    for path, part in model.named_modules():
        if part.training:
            what = f"{path} ({type(part).__name__})" if path else type(part).__name__
            raise CaptureError(
                f"{what} is in training mode: call model.eval(), which sets all parts, before tracing it"
            )


def unwrapped(model: nn.Module) -> tuple[nn.Module, nn.Module, Callable[[str], str]]:
    """The module with the names of the state dict, the module to export, and a map from the names of the latter.

    A model behind `torch.compile` or a data-parallel wrapper is exported without it; `Forwards` is exported as it is.
    """
    if isinstance(model, Forwards):
        return model.model, model, lambda name: name.removeprefix(PREFIX)
    for wrapper, attribute in WRAPPERS.items():
        if type(model).__name__ == wrapper:
            return model, getattr(model, attribute), f"{attribute}.".__add__
    return model, model, str


def twin_of(model: nn.Module) -> nn.Module:
    """A copy that shares all tensors, since `torch.export` replaces the tensors of the module that it traces.

    Another thread may be using the model. If a model is on `meta` except for a few tensors (a constructor like
    `torch.Tensor(n)` ignores `with torch.device("meta")`), the copy is completely on `meta`. A model that cannot be
    copied is traced itself; CaptureError is raised if that would change it. What a module has kept of an earlier call
    and drops when it is moved to a device, such as biases looked up in a table, is not copied: it would be a constant.
    """
    tensors = [*model.parameters(), *model.buffers()]
    mixed = len({tensor.is_meta for tensor in tensors}) == 2
    held = [tensor for module in model.modules() for value in vars(module).values() for tensor in _tensors_in(value)]
    shared = {id(t): _on_meta(t) if mixed else t for t in [*held, *tensors]}
    caching = any(map(_caches, model.modules()))
    try:
        twin = copy.deepcopy(model, shared)
    except Exception as error:  # whatever a part of it does when it is copied
        if mixed or caching:
            cure = "set its config.use_cache to False" if caching else "move it to one device"
            raise CaptureError(f"{type(model).__name__} cannot be copied ({described(error)}): {cure}") from error
        return model
    for module in twin.modules():
        if _caches(module):
            vars(module)["config"].use_cache = False
    drop_kept(twin)
    return twin


def drop_kept(model: nn.Module) -> None:
    """Have modules drop what they have computed from their weights and kept, as when they are moved to a device."""
    for module in model.modules():
        if type(module)._apply is not nn.Module._apply:
            module._apply(_same)  # type: ignore[no-untyped-call]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _tensors_in(attribute: Any) -> list[Tensor]:
    """The tensors of an attribute: itself, or the items of a list or the values of a dict."""
    some = attribute.values() if isinstance(attribute, dict) else attribute
    return [one for one in (some if isinstance(some, list | tuple | ValuesView) else [some]) if isinstance(one, Tensor)]


def _on_meta(tensor: Tensor) -> Tensor:
    on_meta = tensor.to("meta")
    return nn.Parameter(on_meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else on_meta


def _caches(module: nn.Module) -> bool:
    return getattr(vars(module).get("config"), "use_cache", False) is True
