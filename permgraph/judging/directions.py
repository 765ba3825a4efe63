"""The directions in which a group moves operands and results: its Lie algebra, and its signs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers, complement_of_ones
from permgraph.judging.one_call import State
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

STEP = 1e-4  # the differentiated functions are nearly linear


def directions(spec: PermutationSpec, states: Sequence[State], results: Sequence[Sequence[Tensor]]) -> Tensor:
    """One column for each generator of the continuous part: the derivatives of all operands and floating results."""
    columns = []
    for group in spec.groups:
        for part in generators(group):
            there, back = (_moved(spec, {group.name: part(t)}, states, results) for t in (STEP, -STEP))
            columns.append((there - back) / (2 * STEP))
    rows = sum(value.numel() for state in states for value in state.values())
    rows += sum(value.numel() for given in results for value in given if value.is_floating_point())
    return torch.stack(columns, 1) if columns else torch.zeros(rows, 0, dtype=torch.float64)


def sign_masks(spec: PermutationSpec, state: State, results: Sequence[Tensor]) -> Any:
    """One row for each sign of the group: whether it changes the sign of each operand's and result's element."""
    ones = {name: torch.ones_like(value) for name, value in state.items()}
    outs = [torch.ones_like(value) for value in results]
    rows = [
        (_moved(spec, {group.name: part}, [ones], [outs]) < 0).numpy()
        for group in spec.groups
        for part in _signs(group)
    ]
    size = sum(v.numel() for v in ones.values()) + sum(v.numel() for v in outs if v.is_floating_point())
    return np.array(rows, dtype=bool).reshape(-1, size)


def _moved(
    spec: PermutationSpec,
    element: Mapping[str, Any],
    states: Sequence[State],
    results: Sequence[Sequence[Tensor]],
) -> Tensor:
    found = []
    for state, given in zip(states, results, strict=True):
        found += list(spec.apply(element, state).values())
        found += [value for value in spec.apply_outputs(element, list(given)) if value.is_floating_point()]
    return torch.cat([value.flatten().double() for value in found])


def generators(group: PermutationGroup) -> Iterator[Any]:
    """One-parameter subgroups t -> part that span the Lie algebra of a group."""
    for row in np.ndindex(*group.depends_sizes):
        for x in _algebra(group.kind, group.size):
            yield _subgroup(group, row, x)


def _subgroup(group: PermutationGroup, row: tuple[int, ...], x: Numbers) -> Any:
    shape = group.table_shape

    def part(t: float) -> Any:
        if group.kind in ("scaled", "monomial"):
            scale = np.ones(shape)
            scale[row] = np.exp(t * np.diag(x))
            return Monomial(np.broadcast_to(np.arange(shape[-1]), shape).copy(), scale)
        matrix = np.broadcast_to(np.eye(shape[-1]), (*shape, shape[-1])).copy()
        matrix[row] = torch.linalg.matrix_exp(torch.from_numpy(t * x)).numpy()
        return Matrix(matrix, Kind(group.kind).is_orthogonal)

    return part


def _algebra(kind: str, n: int) -> list[Numbers]:
    """A basis of the Lie algebra of a kind; () for a discrete one."""
    if kind in ("scaled", "monomial"):
        return [np.diag(row) for row in np.eye(n)]
    if kind == "invertible":
        return list(np.eye(n * n).reshape(-1, n, n))
    if kind not in ("orthogonal", "centred"):
        return []
    basis = np.eye(n) if kind == "orthogonal" else complement_of_ones(n)
    planes = [np.outer(basis[:, i], basis[:, j]) for i, j in combinations(range(basis.shape[1]), 2)]
    return [x - x.T for x in planes]


def _signs(group: PermutationGroup) -> Iterator[Any]:
    """An element for each unit whose sign may change by itself."""
    shape = group.table_shape
    for place in np.ndindex(*shape):
        signs = np.ones(shape)
        signs[place] = -1
        if group.kind in ("signed", "monomial"):
            yield Monomial(np.broadcast_to(np.arange(shape[-1]), shape).copy(), signs)
        elif group.kind in ("orthogonal", "invertible"):
            yield Matrix(signs[..., None] * np.eye(shape[-1]), Kind(group.kind).is_orthogonal)
