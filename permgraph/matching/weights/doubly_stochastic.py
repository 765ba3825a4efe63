"""Doubly stochastic matrices as mixtures: a share of the barycentre and a few permutations of the flattened units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from permgraph.matching.weights.effort import SIZES
from permgraph.symmetry.elements.parts import Index


@dataclass(frozen=True, eq=False)
class Mixture:
    """X = uniform · (1 ⊗ J/n) + Σ weight_t P_t, [units, units], A's units first; P_t takes new = old[index_t].

    `blocks`: the number of pinned combinations, outermost; the barycentre is uniform within each and 0 between.
    A mixture of t permutations acts at t gathers, where a dense matrix of n units costs n products an element.
    """

    units: int
    blocks: int
    uniform: float
    weights: tuple[float, ...] = ()
    indices: tuple[Index, ...] = ()

    @property
    def is_uniform(self) -> bool:
        """Whether this is the barycentre, with nothing pinned."""
        return not self.weights and self.blocks == 1

    @property
    def vertex(self) -> Index | None:
        """The permutation, if this is one."""
        return self.indices[0] if len(self.indices) == 1 and self.uniform == 0 else None

    def toward(self, index: Index, step: float) -> Mixture:
        """(1 - step) · X + step · P."""
        parts = [(w * (1 - step), x) for w, x in zip(self.weights, self.indices, strict=True)]
        same = [k for k, (_, x) in enumerate(parts) if np.array_equal(x, index)]
        if same:
            parts[same[0]] = parts[same[0]][0] + step, index
        else:
            parts.append((step, index))
        parts = [(w, x) for w, x in parts if w > SIZES.negligible]
        uniform = self.uniform * (1 - step)
        return Mixture(
            self.units,
            self.blocks,
            uniform if uniform > SIZES.negligible else 0.0,
            tuple(w for w, _ in parts),
            tuple(x for _, x in parts),
        )

    def act(self, tensor: Tensor, dim: int, rows: slice = slice(None)) -> Tensor:
        """X applied to an axis of `units`; only these rows of the result."""
        if len(self.weights) > SIZES.dense_above:
            product: Tensor = torch.tensordot(self.dense[rows].to(tensor.dtype), tensor, ([1], [dim]))
            return product.movedim(0, dim)
        if (vertex := self.vertex) is not None:
            return tensor.index_select(dim, torch.from_numpy(vertex[rows]))
        result = self._mean(tensor, dim, rows)
        for weight, index in zip(self.weights, self.indices, strict=True):
            result.add_(tensor.index_select(dim, torch.from_numpy(index[rows])), alpha=weight)
        return result

    def _mean(self, tensor: Tensor, dim: int, rows: slice) -> Tensor:
        """The share of the barycentre: each row is `uniform` times the mean of its block."""
        size = self.units // self.blocks
        means = tensor.view([*tensor.shape[:dim], self.blocks, size, *tensor.shape[dim + 1 :]]).mean(dim + 1)
        block = torch.arange(self.units, device="cpu")[rows] // size
        return means.mul_(self.uniform).index_select(dim, block)

    @cached_property
    def dense(self) -> Tensor:
        """[units, units] in float64."""
        size = self.units // self.blocks
        matrix = torch.kron(
            torch.eye(self.blocks, dtype=torch.float64, device="cpu"),
            torch.full((size, size), self.uniform / size, dtype=torch.float64, device="cpu"),
        )
        rows = torch.arange(self.units, device="cpu")
        for weight, index in zip(self.weights, self.indices, strict=True):
            matrix[rows, torch.from_numpy(index)] += weight
        return matrix

    def inner(self, matrix: Tensor) -> float:
        """<matrix, X>."""
        total = 0.0
        if self.uniform:
            size = self.units // self.blocks
            blocks = matrix.reshape(self.blocks, size, self.blocks, size).diagonal(dim1=0, dim2=2)
            total += self.uniform / size * float(blocks.sum(dtype=torch.float64))
        for weight, index in zip(self.weights, self.indices, strict=True):
            total += weight * inner_vertex(matrix, index)
        return total


def inner_vertex(matrix: Tensor, index: Index) -> float:
    """<matrix, P>."""
    return float(matrix.gather(1, torch.from_numpy(index)[:, None]).sum(dtype=torch.float64))


def gather(tensor: Tensor, spans: Sequence[tuple[int, ...]], indices: Sequence[Index]) -> Tensor:
    """new[atoms] = old[source(atoms)], for actions that each run over the atoms in their span.

    Where two actions share an atom (one that selects the permutation of both) they agree on its source.
    """
    if sum(map(len, spans)) == len({atom for span in spans for atom in span}) and all(len(s) == 1 for s in spans):
        for (atom,), index in zip(spans, indices, strict=True):
            tensor = tensor.index_select(atom, torch.from_numpy(index))
        return tensor
    rank = tensor.dim() - 1
    sources = [
        np.arange(n).reshape([-1 if k == j else 1 for j in range(rank)]) for k, n in enumerate(tensor.shape[:-1])
    ]
    for span, index in zip(spans, indices, strict=True):
        shape = [tensor.shape[atom] for atom in span]
        grid = [tensor.shape[k] if k in span else 1 for k in range(rank)]
        rest = index
        for atom in reversed(span):
            rest, source = np.divmod(rest, tensor.shape[atom])
            # The span is in the action's order, the grid in the tensor's.
            sources[atom] = source.reshape(shape).transpose(np.argsort(span)).reshape(grid)
    return tensor[tuple(torch.from_numpy(np.ascontiguousarray(source)) for source in sources)]
