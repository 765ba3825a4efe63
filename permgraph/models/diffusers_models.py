"""Models of diffusers, from the folder of one: a UNet, an autoencoder, a transformer of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.adapters import Adapter, Inputs
from permgraph.errors import AdapterError, CheckpointError
from permgraph.requirements import unusable
from permgraph.wording import described

PIXELS, TOKENS, IDS, SIDE = 16, 5, 6, 4
CLASSES = ("num_class_embeds", "num_embeds_ada_norm")
TEXT = ("encoder_hid_dim", "joint_attention_dim", "caption_channels", "cross_attention_dim")
TIMED, TEXTS = ("num_embeds_ada_norm", "pooled_projection_dim"), ("joint_attention_dim", "caption_channels")
PLACES = "axes_dims_rope"
"""The field of a model that is given tokens and their places, one number for each of these axes."""
OPTIONAL: Mapping[str, Callable[[Any], bool]] = {
    "timestep": lambda config: any(config.get(name) for name in (*TIMED, *TEXTS)),
    "class_labels": lambda config: any(config.get(name) for name in CLASSES),
    "encoder_hidden_states": lambda config: any(config.get(name) for name in TEXTS),
    "pooled_projections": lambda config: bool(config.get("pooled_projection_dim")),
    "added_cond_kwargs": lambda config: config.get("addition_embed_type") == "text_time",
    "guidance": lambda config: bool(config.get("guidance_embeds")),
    "img_ids": lambda config: bool(config.get(PLACES)),
    "txt_ids": lambda config: bool(config.get(PLACES)),
}
"""Arguments that may be left out in a call, and whether a model of this config needs them."""


class DiffusersAdapter(Adapter):
    """Every model of diffusers whose inputs are those of a denoising network or of an autoencoder."""

    def example_inputs(self, model: nn.Module, *, seed: int = 0) -> Inputs:
        """Noise of the model's channels, a time, and vectors of text, sizes and classes where its config has them.

        Raises AdapterError for a model that needs something else.
        """
        generator = torch.Generator().manual_seed(seed)
        config: Any = model.config

        def noise(*shape: int) -> Tensor:
            return torch.randn(1, *shape, generator=generator, device="cpu")

        known: dict[str, Callable[[], Any]] = {
            "sample": lambda: noise(config["in_channels"], *_sizes(config)),
            "hidden_states": lambda: noise(*_hidden(config)),
            "timestep": lambda: torch.tensor([1], device="cpu"),
            "encoder_hidden_states": lambda: noise(TOKENS, _width(config)),
            "pooled_projections": lambda: noise(config["pooled_projection_dim"]),
            "class_labels": lambda: torch.tensor([1], device="cpu"),
            "added_cond_kwargs": lambda: {"text_embeds": noise(_pooled(config)), "time_ids": noise(IDS)},
            "guidance": lambda: torch.tensor([1.0], device="cpu"),
            "img_ids": lambda: _places(len(config[PLACES])),
            "txt_ids": lambda: torch.zeros(TOKENS, len(config[PLACES]), device="cpu"),
        }
        wanted = _wanted(model)
        if "img_ids" in signature(model.forward).parameters and not config.get(PLACES):  # tokens of an unknown form
            del known["hidden_states"]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise AdapterError(
                f"{type(model).__name__} takes {', '.join(unknown)}, and no example of that can be made. Give it as "
                "python:package.module:function, a function that returns (model, args, kwargs)."
            )
        return (), {name: known[name]() for name in wanted}


def _wanted(model: nn.Module) -> list[str]:
    """The arguments that a call needs: those without a default, and those that the config calls for."""
    config: Any = model.config
    parameters = signature(model.forward).parameters
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is Parameter.empty and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
    ]
    return needed + [name for name in OPTIONAL if name in parameters and name not in needed and OPTIONAL[name](config)]


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


def _hidden(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of one input of a transformer: channels and pixels, or tokens if it is given their places."""
    channels = int(config["in_channels"])
    return (SIDE**2, channels) if config.get(PLACES) else (channels, *_sizes(config))


def _places(axes: int) -> Tensor:
    """The row and column of each token of an image, as the second and third of the numbers that say where it is."""
    found = torch.zeros(SIDE, SIDE, axes, device="cpu")
    found[..., 1], found[..., 2] = torch.arange(SIDE, device="cpu")[:, None], torch.arange(SIDE, device="cpu")
    return found.view(-1, axes)


def _sizes(config: Mapping[str, Any]) -> tuple[int, int]:
    """Pixels that can be halved as often as the model does."""
    halved = 2 ** max(len(config.get("block_out_channels") or ()) - 1, 0)
    size = max(PIXELS, 2 * halved)
    return size, size


def _pooled(config: Mapping[str, Any]) -> int:
    """The width of the vector of text beside the numbers of `time_ids`."""
    return int(config["projection_class_embeddings_input_dim"] - IDS * config["addition_time_embed_dim"])


def _width(config: Mapping[str, Any]) -> int:
    width = next((config[name] for name in TEXT if config.get(name)), 1)
    return int(width if isinstance(width, int) else width[0])
