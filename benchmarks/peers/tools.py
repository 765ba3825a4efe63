"""Each tool's groups for a model, and a random element of them applied in place."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from pruning_groups import output_layers, units_of
from torch import Tensor, nn
from zoo_rows import Case, L

import permgraph as pg


@dataclass(frozen=True)
class Found:
    """What a tool derived: `move(seed)` permutes the model in place by a random element; `sizes()` are log10 orders."""

    groups: int
    sizes: Callable[[], Sequence[float]]
    move: Callable[[int], None]


def random_permutation(n: int, generator: torch.Generator) -> Tensor:
    """Uniform among the permutations of n that are not the identity, where there is one."""
    while (found := torch.randperm(n, generator=generator)).equal(torch.arange(n)) and n > 1:
        pass
    return found


def by_permgraph(model: nn.Module, case: Case) -> Found:
    """Groups of permgraph."""
    spec = pg.derive(model, case.args, case.kwargs)

    def move(seed: int) -> None:
        model.load_state_dict(spec.apply(spec.sample(seed), model.state_dict()))

    return Found(len(spec.groups), lambda: [group.log10_order for group in spec.groups], move)


def by_rebasin(model: nn.Module, case: Case) -> Found:
    """Groups of rebasin."""
    from rebasin.permutation_initializer import PermutationInitializer

    initializer = PermutationInitializer(copy.deepcopy(model), model, _inputs(model, case))
    initializer.model_graph.enforce_identity()
    permutations = [permutation for permutation, _ in initializer.model_graph.permutation_to_info]

    def move(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for permutation in permutations:
            permutation.perm_indices = random_permutation(len(permutation), generator)
        initializer.model_graph.apply_permutations()

    return Found(len(permutations), lambda: [L(len(permutation)) for permutation in permutations], move)


def _inputs(model: nn.Module, case: Case) -> Any:
    """A list of tensors, or a mapping of names where the model takes its inputs by name."""
    if not case.kwargs:
        return list(case.args)
    return dict(inspect.signature(model.forward).bind(*case.args, **case.kwargs).arguments)


def by_torch_pruning(model: nn.Module, case: Case) -> Found:
    """Groups of Torch-Pruning."""
    import torch_pruning

    graph = torch_pruning.DependencyGraph()
    ignored = output_layers(model, case)
    graph.build_dependency(model, _inputs(model, case), verbose=False)
    groups = [
        group
        for group in graph.get_all_groups(ignored_layers=ignored)
        if not any(dep.target.type == torch_pruning.ops.OPTYPE.OUTPUT for dep, _ in group)
    ]
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    units = cache(lambda: [units_of(graph, group) for group in groups])

    def move(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for group in units():
            order = random_permutation(len(group), generator).tolist()
            for key, dim in group[0]:
                index = torch.arange(tensors[key].shape[dim])
                for unit, source in zip(group, order, strict=True):
                    index[list(unit[key, dim])] = torch.tensor(group[source][key, dim])
                tensors[key].data = tensors[key].data.index_select(dim, index)

    return Found(len(groups), lambda: [L(len(group)) for group in units()], move)


TOOLS = {"permgraph": by_permgraph, "rebasin": by_rebasin, "torch-pruning": by_torch_pruning}
