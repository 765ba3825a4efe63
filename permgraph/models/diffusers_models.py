"""Models of diffusers, from the folder of one: a UNet, an autoencoder, a transformer of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from permgraph.adapters import Adapter, Inputs
from permgraph.errors import AdapterError, CheckpointError
from permgraph.requirements import unusable
from permgraph.wording import described

PIXELS, TOKENS = 16, 5


class DiffusersAdapter(Adapter):
    """Every model of diffusers whose inputs are those of a denoising network or of an autoencoder."""

    def example_inputs(self, model: nn.Module, *, seed: int = 0) -> Inputs:
        """Noise of the model's channels, a time, and vectors of text where it takes them.

        Raises AdapterError for a model that needs something else.
        """
        generator = torch.Generator().manual_seed(seed)
        config: Any = model.config
        known = {
            "sample": lambda: torch.randn(1, config["in_channels"], *_sizes(config), generator=generator),
            "timestep": lambda: torch.tensor([1]),
            "encoder_hidden_states": lambda: torch.randn(1, TOKENS, _width(config), generator=generator),
        }
        wanted = [
            name
            for name, parameter in signature(model.forward).parameters.items()
            if parameter.default is Parameter.empty and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
        ]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise AdapterError(
                f"{type(model).__name__} takes {', '.join(unknown)}, and no example of that can be made. Give it as "
                "python:package.module:function, a function that returns (model, args, kwargs)."
            )
        return (), {name: known[name]() for name in wanted}


def is_diffusers_config(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of a `config.json` are those of a model of diffusers."""
    return "model_type" not in fields and isinstance(fields.get("_class_name"), str)


def diffusers_from_folder(folder: Path, fields: Mapping[str, Any]) -> nn.Module:
    """The model that a config of diffusers describes, with random weights; no other code is run.

    Raises CheckpointError where diffusers is not installed, has no such class, or cannot build it.
    """
    try:
        diffusers = import_module("diffusers")
        kind = getattr(diffusers, fields["_class_name"], None)
    except (ImportError, RuntimeError) as error:
        needed = unusable("diffusers", error, install="permgraph[diffusers]")
        raise CheckpointError(f"{folder}: is a {fields['_class_name']} of {needed}.") from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise CheckpointError(
            f"{folder / 'config.json'}: diffusers {diffusers.__version__} has no model {fields['_class_name']!r}. "
            "Install another diffusers, or correct that field."
        )
    try:
        model: nn.Module = kind.from_config(dict(fields))  # type: ignore[attr-defined]
    except Exception as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: {fields['_class_name']} cannot be built from it: {described(error)}. Correct "
            "the field."
        ) from error
    return model


def _sizes(config: Mapping[str, Any]) -> tuple[int, int]:
    """Pixels that can be halved as often as the model does."""
    halved = 2 ** max(len(config.get("block_out_channels") or ()) - 1, 0)
    size = max(PIXELS, 2 * halved)
    return size, size


def _width(config: Mapping[str, Any]) -> int:
    width = config.get("encoder_hid_dim") or config.get("cross_attention_dim") or 1
    return int(width if isinstance(width, int) else width[0])
