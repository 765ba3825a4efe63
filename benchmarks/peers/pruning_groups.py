"""Torch-Pruning's groups read as permutations: for every channel, the positions of the tensors that go with it."""

from __future__ import annotations

import copy
from itertools import chain
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo_rows import Case

Unit = dict[tuple[int, int], tuple[int, ...]]
"""(Tensor, dim) -> positions."""


class NotExpressibleError(Exception):
    """The groups of a tool cannot be read as permutations."""


def output_layers(model: nn.Module, case: Case) -> list[nn.Module]:
    """Modules whose output is an output of the model."""
    made: dict[int, list[nn.Module]] = {}
    kept = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        for leaf in pytree.tree_leaves(output):
            kept.append(leaf)
            made.setdefault(id(leaf), []).append(module)

    hooks = [module.register_forward_hook(note) for module in model.modules() if module is not model]
    leaves = pytree.tree_leaves(model(*case.args, **case.kwargs))
    for hook in hooks:
        hook.remove()
    return [module for leaf in leaves for module in made.get(id(leaf), [])]


def _channel_groups(graph: Any, group: Any) -> int:
    """The number of channel groups that all permute alike: as in its MetaPruner."""
    most = 1
    for dep, _ in group:
        layer, pruner = dep.target.module, dep.handler.__self__
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.out_channels:
            continue
        out = graph.is_out_channel_pruning_fn(dep.handler)
        count = getattr(pruner, "get_out_channel_groups" if out else "get_in_channel_groups", None)
        if isinstance(layer, nn.Module) and count is not None:
            most = max(most, count(layer))
    return most


def units_of(graph: Any, group: Any) -> list[Unit]:
    """For every channel of the root: the positions of every axis that go with it."""
    root, channels, together = group[0].dep, len(group[0].idxs), _channel_groups(graph, group)
    if channels % together:
        raise NotExpressibleError(f"{channels} channels in {together} channel groups")
    step = channels // together
    units: list[Unit] = []
    for first in range(step):
        indices = list(range(first, channels, step))
        gone: dict[tuple[int, int], set[int]] = {}
        for dep, idxs in graph.get_pruning_group(root.target.module, root.handler, indices):
            for key, positions in _removed(dep, idxs).items():
                gone.setdefault(key, set()).update(positions)
        unit = {key: tuple(sorted(positions)) for key, positions in gone.items()}
        if unit not in units:
            units.append(unit)
    for key in {key: None for unit in units for key in unit}:
        blocks = [unit.get(key, ()) for unit in units]
        if len({len(block) for block in blocks}) > 1 or len({*chain(*blocks)}) < sum(map(len, blocks)):
            raise NotExpressibleError("channels of one group stand for sets of different sizes, or that overlap")
    return units


def _removed(dep: Any, indices: list[int]) -> dict[tuple[int, int], list[int]]:
    """(Tensor, dim) -> the positions that are gone after its pruning function ran on a copy with numbered entries."""
    layer = dep.target.module
    before = _tensors(layer)
    if not before:
        return {}
    numbered = copy.deepcopy(layer)
    for tensor in _tensors(numbered).values():
        tensor.data = torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
    dep.handler.__self__.pruning_dim = dep.target.pruning_dim
    try:
        result = dep.handler(numbered, sorted(indices))
    except Exception as failure:
        raise NotExpressibleError(f"its pruning function fails: {type(failure).__name__}: {failure}") from failure
    pruned = _tensors(result if isinstance(layer, nn.Parameter) else numbered)
    return {
        (id(tensor), dim): _gone(tensor.shape, dim, pruned[name])
        for name, tensor in before.items()
        for dim, size in enumerate(tensor.shape)
        if pruned[name].shape[dim] != size
    }


def _tensors(layer: nn.Module | Tensor) -> dict[str, Tensor]:
    if isinstance(layer, Tensor):
        return {"": layer}
    return {name: t for name, t in [*layer.named_parameters(), *layer.named_buffers()] if t.dim()}


def _gone(shape: torch.Size, dim: int, numbers: Tensor) -> list[int]:
    """Positions along a dimension of which no number is left."""
    stride = prod(shape[dim + 1 :])
    kept = set((numbers.detach().long() // stride % shape[dim]).flatten().tolist())
    return [position for position in range(shape[dim]) if position not in kept]
