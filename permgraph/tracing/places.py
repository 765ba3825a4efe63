"""The place of each leaf in what a model takes or returns, also in classes that PyTorch knows without field names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils import _pytree as pytree

Key = Any


def leaves_with_places(value: Any) -> list[tuple[tuple[Key, ...], Any]]:
    """(path, leaf) for every leaf, as `tree_flatten_with_path` has it; keys of a class without names are numbers.

    diffusers registers its outputs so.
    """
    try:
        return list(pytree.tree_flatten_with_path(value)[0])
    except ValueError:
        return list(_walked(value, ()))


def _walked(value: Any, path: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], Any]]:
    node = pytree.SUPPORTED_NODES.get(pytree._get_node_type(value))
    if node is None:
        yield path, value
        return
    children, context = node.flatten_fn(value)
    names = context if isinstance(context, list | tuple) and len(context) == len(children) else range(len(children))
    for name, child in zip(names, children, strict=True):
        key: Key = pytree.MappingKey(name) if isinstance(name, str) else pytree.SequenceKey(name)
        yield from _walked(child, (*path, key))
