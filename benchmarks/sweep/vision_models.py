"""The architectures of timm and torchvision, with images of the size they were made for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
import vision
from torch import nn

timm, torchvision = vision.load("timm"), vision.load("torchvision")

EACH = 3  # models of one timm module: the smallest of as many name stems
MOST_PARAMETERS = 100e6
IMAGES = ((1, 3, 224, 224),)
CLIPS = ((1, 3, 16, 112, 112), (1, 3, 16, 224, 224))


def timm_names() -> list[str]:
    """Of each module of timm the smallest model of each of the first stems of its names ("resnet", "resnext", …)."""
    found: list[str] = []
    for module in timm.list_modules():
        stems: dict[str, str] = {}
        for name in timm.list_models(module=module):
            stem = re.split(r"[_\d]", name)[0]
            if stem not in stems or _rank(name) < _rank(stems[stem]):
                stems[stem] = name
        found += list(stems.values())[:EACH]
    return sorted(dict.fromkeys(found))


SIZES = ("atto", "femto", "pico", "nano", "zepto", "tiny", "xxs", "xs", "mini", "s0", "b0", "050", "small", "18", "10")


def _rank(name: str) -> tuple[int, int, str]:
    place = next((k for k, size in enumerate(SIZES) if size in name), len(SIZES))
    return place, len(name), name


def torchvision_names() -> list[str]:
    """The classification, segmentation and video models of torchvision, the smallest of each stem of their names."""
    stems: dict[str, str] = {}
    for module in (torchvision.models, torchvision.models.segmentation, torchvision.models.video):
        for name in torchvision.models.list_models(module=module):
            stem = re.split(r"\d", name.replace("quantized_", ""))[0]
            if stem not in stems or _rank(name) < _rank(stems[stem]):
                stems[stem] = name
    return sorted(stems.values())


def build_timm(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """A timm model with random weights, and one image."""
    model = _of_a_size(lambda: timm.create_model(name, pretrained=False))
    return model, (torch.randn(1, *timm.data.resolve_model_data_config(model)["input_size"]),), {}


def build_torchvision(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """A torchvision model with random weights, and one image or clip of the first size that it takes."""
    builder = torchvision.models.get_model_builder(name)
    options = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    model = _of_a_size(lambda: builder(**options))
    for shape in CLIPS if model.__module__.startswith("torchvision.models.video") else IMAGES:
        try:
            with torch.no_grad():
                model(torch.zeros(shape))
        except RuntimeError as error:
            problem = error
        else:
            return model, (torch.randn(shape),), {}
    raise problem


def _of_a_size(make: Callable[[], nn.Module]) -> nn.Module:
    """A model in eval mode with random weights; ValueError where it is too large for this sweep."""
    torch.manual_seed(0)
    model = make().eval()
    size = sum(p.numel() for p in model.parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"{size:,} parameters")
    return model


def names() -> Iterator[tuple[str, str]]:
    """(source, name) of all."""
    yield from (("timm", name) for name in timm_names())
    yield from (("torchvision", name) for name in torchvision_names())
