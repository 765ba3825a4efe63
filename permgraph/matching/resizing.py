"""Copies of models with other lengths of their borders: the tensors, and the attributes that say how long they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

SIZES = (
    "num_channels", "in_channels", "in_chans", "vocab_size", "max_position_embeddings", "n_positions",
    "max_source_positions", "max_target_positions",
)  # fmt: skip
"""Attributes of modules and configs that say how long a border is."""
IMAGES = ("image_size", "img_size", "grid_size", "feat_size", "num_patches", "num_positions")
"""Attributes of modules and configs that say how large the images are."""


def resized(
    model: nn.Module, tensors: Mapping[str, Tensor], sizes: Mapping[int, int], like: Mapping[str, nn.Module]
) -> nn.Module:
    """A copy of a model with other tensors of these names, which shares all else with it.

    `sizes`: old length -> new length, for the attributes of modules and configs that say how long a border is.
    `like`: modules whose sizes of images the modules of the same name in the copy take.
    """
    known = dict[str, Tensor](model.named_parameters(remove_duplicate=False))
    known |= dict(model.named_buffers(remove_duplicate=False))
    shared: dict[int, Any] = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    for name, tensor in tensors.items():
        old = known[name]
        grad = old.requires_grad
        shared[id(old)] = nn.Parameter(tensor, grad) if isinstance(old, nn.Parameter) else tensor
    other = copy.deepcopy(model, shared)
    for holder, first in _holders(other, like):
        resize_fields(holder, sizes)
        take_image_sizes(holder, first)
    return other


def resize_config(config: Any, sizes: Mapping[int, int], like: Any) -> None:
    """Set the fields of a config, and of those in it, that say how long borders are; sizes of images are `like`'s."""
    others = _configs(like)
    for name, part in _configs(config).items():
        resize_fields(part, sizes)
        take_image_sizes(part, others.get(name))


def resize_fields(holder: Any, sizes: Mapping[int, int]) -> None:
    """Set the attributes of a module or config that say how long a border is, old length -> new length."""
    for attribute, length in _attributes(holder, SIZES):
        if isinstance(length, int) and sizes.get(length, length) != length:
            setattr(holder, attribute, sizes[length])


def take_image_sizes(holder: Any, first: Any) -> None:
    """Give a module or config the sizes of images that `first` has, if there is one."""
    known = {} if first is None else dict(_attributes(first, IMAGES))
    for attribute, size in list(_attributes(holder, IMAGES)):
        if attribute in known and known[attribute] != size:
            setattr(holder, attribute, known[attribute])


def _attributes(holder: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    own = isinstance(holder, nn.Module)  # a module may warn about attributes of its config
    found = ((name, vars(holder).get(name) if own else getattr(holder, name, None)) for name in names)
    return ((name, value) for name, value in found if value is not None)


def _holders(model: nn.Module, like: Mapping[str, nn.Module]) -> list[tuple[Any, Any]]:
    """The modules and configs of a model, each once, with those in their place in another."""
    found: dict[int, tuple[Any, Any]] = {}
    for name, module in model.named_modules():
        first = like.get(name)
        found[id(module)] = module, first
        others = _configs(getattr(first, "config", None))
        for part, config in _configs(getattr(module, "config", None)).items():
            found.setdefault(id(config), (config, others.get(part)))
    return list(found.values())


def _configs(config: Any) -> dict[str, Any]:
    """A config and those in it, by their attribute; none for one that is no object."""
    if config is None or isinstance(config, Mapping):
        return {}
    return {"": config, **{name: part for name, part in vars(config).items() if hasattr(part, "to_dict")}}
