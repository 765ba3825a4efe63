"""Similarity by chance: under random elements, and of unrelated weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import like
from permgraph.matching.match import Task
from permgraph.matching.methods.weights import by_weights
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.comparison.similarity import Sums

DRAWS, ENOUGH = 999, 50
MOST = 1_000_000
"""Elements of the weights that are compared in each draw; for larger models, a random subset of the tensors."""
TENSORS = 24
"""The most tensors in a draw."""

State = Mapping[str, Tensor]


def p_value(spec: PermutationSpec, a: State, b: State, seed: int, draws: int = DRAWS) -> float:
    """(1 + number of random permutations π with T(A, πB) ≥ T(A, B)) / (1 + number of draws), T the mean cosine.

    If B was made independently of A, by a training that does not depend on the numbering of units, B and πB have the
    same distribution, and the result is at most p with probability p. After `ENOUGH` such π no more are drawn, and p is
    their number divided by that of the draws (Besag and Clifford, 1991). Tensors that are equal in A and B are left
    out, such as tables of sines that training does not change. Source: arXiv 2502.12292.
    """
    generator = np.random.default_rng(seed)
    names = _chosen(spec, a, b, generator)

    directions = {name: (_direction(a[name]), _direction(b[name])) for name in names}  # no permutation changes a norm

    def value(tables: Mapping[str, Index]) -> float:
        pairs = ((one, spec.layouts[name].apply(tables, other)) for name, (one, other) in directions.items())
        return sum(float(one.reshape(-1) @ other.reshape(-1)) for one, other in pairs)

    if not names:
        return 1.0
    still = {group.name: np.broadcast_to(np.arange(group.size), group.table_shape) for group in spec.groups}
    here = value(still)
    above = 0
    for number in range(1, draws + 1):
        above += value(_tables(spec.groups, generator)) >= here
        if above == ENOUGH:
            return above / number
    return (1 + above) / (1 + draws)


def _direction(tensor: Tensor) -> Tensor:
    """The tensor with norm 1, or 0; in float32, or float64 where it is that."""
    wide = tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
    found: Tensor = wide / wide.norm().clamp(min=torch.finfo(wide.dtype).tiny)
    return found


def chance(task: Task, seed: int) -> float:
    """The cosine of A with a B matched to it after each tensor of B was permuted by a separate element.

    Such weights have the same numbers in each tensor, and no relation to A. The cosine after matching is due to the
    freedom of matching alone; it is large in small models.
    """
    generator = np.random.default_rng(seed)
    a, b = task.states
    spec = task.spec
    mixed = {name: _mixed(spec, name, tensor, generator) for name, tensor in b.items()}
    match = by_weights(replace(task, models=task.models.with_states(a, mixed), progress=None))[1]
    moved = spec.apply({**spec.identity(), **match.element}, mixed)
    return sum((Sums.of(a[name], moved[name]) for name in moving(spec, a)), Sums()).cosine


def moving(spec: PermutationSpec, a: State) -> list[str]:
    """The tensors on which some group acts, tied ones once."""
    found = (n for n, layout in spec.layouts.items() if layout.groups and n not in spec.ties.aliases)
    return [name for name in found if like(a)[name].is_floating_point()]


def _mixed(spec: PermutationSpec, name: str, tensor: Tensor, generator: np.random.Generator) -> Tensor:
    layout = spec.layouts.get(name, Layout(tuple(tensor.shape), ()))
    return layout.apply(_tables([g for g in spec.groups if g.name in layout.groups], generator), tensor.detach())


def _tables(groups: Sequence[PermutationGroup], generator: np.random.Generator) -> dict[str, Any]:
    """Random permutations, without signs, scales and rotations, since training is not invariant under these."""
    still = {group.name: np.broadcast_to(np.arange(group.size), group.table_shape) for group in groups}
    return {name: generator.permuted(table, axis=-1) for name, table in still.items()}


def _chosen(spec: PermutationSpec, a: State, b: State, generator: np.random.Generator) -> list[str]:
    """Tensors in random order, up to the number of elements of a draw; at least one matrix."""
    names = [name for name in moving(spec, a) if not bool((a[name] == b[name]).all())]
    size = {name: prod(spec.shapes[name]) for name in names}
    matrices = sorted((name for name in names if len(spec.shapes[name]) > 1), key=lambda name: size[name])
    found = matrices[:1]
    for k in generator.permutation(len(names)):
        if names[k] not in found and sum(size[name] for name in found) + size[names[k]] <= MOST:
            found.append(names[k])
    return found[:TENSORS]
