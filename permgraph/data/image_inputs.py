"""Example inputs for models that write the features of an image over tokens of the text."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

TOKEN_FIELDS = ("image_token_id", "image_token_index", "image_token")
SIDE = 8  # patches along each side of an image of no fixed size
Inputs = dict[str, Any]


def image_token(model: nn.Module) -> int | None:
    """The id of the token that features of an image replace; None if the model has no such token."""
    config = getattr(model, "config", None)
    found = (getattr(config, name, None) for name in TOKEN_FIELDS)
    return next((number for number in found if isinstance(number, int)), None)


def with_image(model: nn.Module, inputs: Inputs, token: int) -> Inputs:
    """Token ids and an image for each row, with as many image tokens as an image has features.

    The forms that images have in transformers are tried in turn: pixels, several images a row, patches in a row. The
    first with which the model runs is taken; if there is none, the text alone, which runs without an image.
    """
    text = {name: value for name, value in inputs.items() if name != "pixel_values"}
    text["input_ids"] = ids = torch.where(inputs["input_ids"] == token, token - 1, inputs["input_ids"])
    for image in _forms(model, inputs["pixel_values"]):
        with suppress(Exception):  # whatever a model's own code raises
            filled = _filled(ids, token, _features(model, image))
            found = _positioned(model, text | _marked(model, filled, token) | image)
            if _runs(model, found):
                return found
    return text


def _forms(model: nn.Module, pixels: Tensor) -> Iterator[Inputs]:
    """One image for each row of text, in each form that the signature admits."""
    accepted = inspect.signature(model.forward).parameters
    rows, *_, height, width = pixels.shape
    if "image_grid_thw" in accepted:
        patches = _normal(rows * SIDE**2, _patch_numbers(model))
        yield {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, SIDE, SIDE]] * rows, device="cpu")}
    sizes = [{"image_sizes": torch.tensor([[height, width]] * rows, device="cpu")}] if "image_sizes" in accepted else []
    for form, size in product((pixels, pixels[:, None], torch.stack([pixels, pixels], 1)), (*sizes, {})):
        yield {"pixel_values": form} | size
    if "image_position_ids" in accepted:
        grid = torch.cartesian_prod(torch.arange(SIDE, device="cpu"), torch.arange(SIDE, device="cpu"))[None].repeat(
            rows, 1, 1
        )
        yield {"pixel_values": _normal(rows, SIDE**2, _patch_numbers(model)), "image_position_ids": grid}


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), device="cpu")


def _patch_numbers(model: Any) -> int:
    """How many numbers a patch has, in all its channels and frames."""
    config = model.config.vision_config
    sizes = [getattr(config, name, None) for name in ("patch_size", "patch_size", "temporal_patch_size")]
    channels = [getattr(config, name, None) for name in ("in_channels", "in_chans", "num_channels")]
    return int(prod(size for size in sizes if size) * next(filter(None, channels), 3))


def _features(model: Any, image: Inputs) -> int:
    """How many vectors the model makes of these images."""
    owner = model if hasattr(model, "get_image_features") else model.model
    accepted = inspect.signature(owner.get_image_features).parameters
    device = next(model.parameters()).device
    with torch.no_grad():
        given = {name: value.to(device) for name, value in image.items() if name in accepted}
        found = owner.get_image_features(**given)
    vectors = getattr(found, "pooler_output", found)
    return sum(vector[..., 0].numel() for vector in pytree.tree_leaves(vectors))


def _filled(ids: Tensor, token: int, features: int) -> Tensor:
    """Token ids with an equal share of the image tokens in each row, behind the first token."""
    images = torch.full((len(ids), features // len(ids)), token, device="cpu")
    return torch.cat([ids[:, :1], images, ids[:, 1:]], 1)


def _marked(model: nn.Module, ids: Tensor, token: int) -> Inputs:
    """Token ids, with the marks of those that stand for an image where the model asks for them."""
    marks = "mm_token_type_ids" in inspect.signature(model.forward).parameters
    return {"input_ids": ids} | ({"mm_token_type_ids": ids.eq(token).int()} if marks else {})


def _positioned(model: nn.Module, inputs: Inputs) -> Inputs:
    """The inputs, with the positions that a model computes from their values: `torch.export` cannot trace that."""
    with suppress(ImportError):  # later versions of transformers alone have it
        from transformers.exporters.utils import precompute_export_inputs

        found = dict(inputs)
        if "image_grid_thw" in found:
            tower = next(part for part in model.modules() if "grid_thw" in inspect.signature(part.forward).parameters)
            patches = {"grid_thw": found["image_grid_thw"]}
            precompute_export_inputs(tower, patches)
            found |= {f"image_{name}": value for name, value in patches.items() if name != "grid_thw"}
        owner = next((part for part in model.modules() if hasattr(part, "get_rope_index")), model)
        precompute_export_inputs(owner, found)
        return found
    return inputs


def _runs(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the model computes something; nothing can be computed on meta, where `_features` has said enough."""
    if not next(model.parameters()).is_meta:
        with torch.no_grad():
            model(**inputs)
    return True
