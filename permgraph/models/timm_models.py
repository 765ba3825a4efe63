"""timm models: by name, or from a folder in timm's own format; images are read with the model's own data config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from math import prod
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from permgraph.adapters import Adapter, Inputs
from permgraph.errors import CheckpointError
from permgraph.matching.grids import resized_plane
from permgraph.requirements import unusable
from permgraph.wording import described

if TYPE_CHECKING:
    from permgraph.data.batches import Batches

SOURCES = ("url", "file", "source", "state_dict", "hf_hub_id", "hf_hub_filename")
"""What a `pretrained_cfg` says about the place of published weights."""
MOST_TOKENS = 16
"""The most rows of a table of positions that belong to no place of an image, such as that of the class token."""


class TimmAdapter(Adapter):
    """Every timm model: one image tensor in, resized, cropped and normalized by the model's `pretrained_cfg`."""

    def example_inputs(self, model: nn.Module, *, seed: int = 0) -> Inputs:
        """Two images of noise, of the size that the model was made for."""
        size = _data_config(model)["input_size"]
        return (torch.randn(2, *size, generator=torch.Generator().manual_seed(seed), device="cpu"),), {}

    def input_facts(self, folder: Path | None, config: Any) -> dict[str, Any]:
        """What `pretrained_cfg` says of the images."""
        fields = (config or {}).get("pretrained_cfg", {})
        return {name: fields[name] for name in ("input_size", "mean", "std", "interpolation") if name in fields}

    def calibration(self, data: Path, *, model: nn.Module, folder: Path | None, **options: Any) -> Batches:
        """Batches of images for the first argument, made by `timm.data.create_transform` as in evaluation."""
        from permgraph.data.images import image_batches

        transform = import_module("timm.data").create_transform(**_data_config(model), is_training=False)

        def pixels(images: list[Any]) -> torch.Tensor:
            return torch.stack([transform(image) for image in images])

        name = next(iter(signature(model.forward).parameters))
        return image_batches(data, name, pixels, **options)


def is_timm_config(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of a `config.json` are those of timm: an `architecture` and no `model_type`."""
    return "model_type" not in fields and isinstance(fields.get("architecture"), str)


def create_timm(name: str, *, pretrained: bool, **sizes: Any) -> nn.Module:
    """The timm model `name`, with `sizes` other than its own.

    Raises CheckpointError where timm is not installed, does not know the name, or cannot get the weights.
    """
    timm = _timm(f"timm:{name}")
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **sizes)
    except Exception as error:  # timm, the hub and the network each have their own
        near = get_close_matches(name.partition(".")[0], timm.list_models(), 3)
        known = name.partition(".")[0] in timm.list_models()
        advice = (
            "Weights come over the network, so without one give a folder with timm's config.json and model.safetensors."
            if known
            else f"timm has no such model; near: {', '.join(near) or 'none, see timm.list_models()'}."
        )
        raise CheckpointError(f"timm:{name}: {described(error)}. {advice}") from error
    return model


def sizes_of(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The classes, input channels and sizes of images that weights of these shapes have, where the model has others."""
    config: Any = getattr(model, "pretrained_cfg", {})
    state, found = model.state_dict(), dict[str, Any]()
    for size, module, dim in (("num_classes", "classifier", 0), ("in_chans", "first_conv", 1)):
        named = config.get(module)
        name = f"{named[0] if isinstance(named, list | tuple) else named}.weight"
        own, stored = tuple(state[name].shape) if name in state else (), tuple(shapes.get(name, ()))
        if len(own) == len(stored) > dim and own[dim] != stored[dim]:
            found[size] = stored[dim]
    if side := _image_size(model, shapes):
        found["img_size"] = side
    if found.keys() & {"in_chans", "img_size"}:
        found["pretrained_cfg_overlay"] = _overlay(config, found)
    return found


def _image_size(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...] | None:
    """The height and width whose patches fill a stored table of positions that is not as long as the model's."""
    patches = getattr(model, "patch_embed", None)
    grid, patch = getattr(patches, "grid_size", None), getattr(patches, "patch_size", None)
    if not grid or not isinstance(patch, tuple):
        return None
    pairs = [(tuple(t.shape), tuple(shapes.get(name, ()))) for name, t in model.state_dict().items()]
    both = (zip(own, stored, strict=True) for own, stored in pairs if len(own) == len(stored))
    others = [(own - prod(grid), stored) for axes in both for own, stored in axes if own != stored]
    found = [resized_plane(tuple(grid), stored - more) for more, stored in others if 0 <= more <= MOST_TOKENS]
    sides = {tuple(n * p for n, p in zip(one, patch, strict=True)) for one in found if one is not None}
    return sides.pop() if len(sides) == 1 else None


def _overlay(config: Any, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What `pretrained_cfg` says of the images, for models of other sizes."""
    own = config["input_size"]
    found: dict[str, Any] = {"input_size": (sizes.get("in_chans", own[0]), *sizes.get("img_size", own[1:]))}
    if channels := sizes.get("in_chans"):
        found |= {key: (fmean(config[key]),) * channels for key in ("mean", "std") if config.get(key)}
    return found


def timm_fields(model: nn.Module, sizes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What timm writes in the `config.json` of a folder with this model; `sizes`: those that it was created with."""
    config: Any = getattr(model, "pretrained_cfg", {})
    kept = {name: value for name, value in config.items() if value is not None and name not in SOURCES}
    known = {name: getattr(model, name) for name in ("num_classes", "num_features") if hasattr(model, name)}
    args = {name: size for name, size in (sizes or {}).items() if name in ("in_chans", "img_size")}
    more = {"model_args": args} if args else {}
    return {"architecture": kept.pop("architecture", None), **known, **more, "pretrained_cfg": kept}


def is_timm(model: nn.Module) -> bool:
    """Whether a model is one of timm's with a classifier."""
    return hasattr(model, "reset_classifier") and bool(getattr(model, "num_classes", 0))


def without_classifier(model: nn.Module) -> nn.Module:
    """The same model without its classifier; the given one is not changed, and no weight copied."""
    kept = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    bare = deepcopy(model, kept)
    bare.reset_classifier(0)  # type: ignore[operator]
    return bare.eval()


def timm_from_folder(folder: Path, fields: Mapping[str, Any]) -> nn.Module:
    """The model that timm's `config.json` describes, with random weights.

    Raises CheckpointError for an unknown architecture.
    """
    timm = _timm(folder)
    known = {name: fields[name] for name in ("num_classes", "global_pool") if name in fields}
    settings = {**known, "pretrained_cfg_overlay": fields.get("pretrained_cfg"), **(fields.get("model_args") or {})}
    try:
        model: nn.Module = timm.create_model(fields["architecture"], pretrained=False, **settings)
    except Exception as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: timm {timm.__version__} cannot build {fields['architecture']!r}: "
            f"{described(error)}. Correct that field, or install another timm."
        ) from error
    return model


def _data_config(model: nn.Module) -> dict[str, Any]:
    config: dict[str, Any] = import_module("timm.data").resolve_model_data_config(model)
    return config


def _timm(where: object) -> Any:
    try:
        import_module("timm.data")
        return import_module("timm")
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises RuntimeError
        needed = unusable("timm", error, install="permgraph[timm]")
        raise CheckpointError(f"{where}: this model needs {needed}.") from error
