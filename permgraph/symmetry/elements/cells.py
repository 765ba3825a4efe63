"""The blocks of a tensor on which groups act: positions, and how an element moves or transforms one block.

In a cell, position x on dimension d is `offset[d] + Σ stride * coordinate` over the leaves of that dimension. A `Move`
names the leaves that one group permutes, and the leaves whose coordinates select which of its permutations applies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.symmetry.elements.parts import Index, Matrix, Monomial


@dataclass(frozen=True)
class Leaf:
    """`size` coordinates on dimension `dim`, `stride` apart."""

    dim: int
    size: int
    stride: int


@dataclass(frozen=True)
class Move:
    """How a group acts on a cell: the leaves it moves as one index, and for each dependency the leaves that index it.

    `power` is the exponent of its scales here, or the side of its matrices: 1 for M, -1 for M⁻ᵀ.
    """

    group: str
    leaves: tuple[int, ...]
    keys: tuple[tuple[int, ...], ...] = ()
    power: int = 1


@dataclass(frozen=True)
class Cell:
    """One block of a tensor, a product of arithmetic progressions on every dimension."""

    offsets: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    moves: tuple[Move, ...]

    @cached_property
    def size(self) -> int:
        """How many elements."""
        return int(np.prod([leaf.size for leaf in self.leaves], dtype=np.int64))

    def coordinates(self) -> list[Index]:
        """The coordinate of each leaf, shaped to broadcast over all leaves."""
        rank = len(self.leaves)
        return [
            np.arange(leaf.size).reshape([-1 if axis == k else 1 for axis in range(rank)])
            for k, leaf in enumerate(self.leaves)
        ]

    def touches(self, dims: Collection[int]) -> bool:
        """Whether some group moves one of these dimensions, or is selected by it."""
        here = {k for move in self.moves for leaves in (move.leaves, *move.keys) for k in leaves}
        return any(self.leaves[k].dim in dims for k in here)

    def sized(self, sizes: Mapping[int, int]) -> Cell:
        """The cell with other sizes on dimensions that no group touches; it covers them completely."""
        offsets = tuple(0 if dim in sizes else offset for dim, offset in enumerate(self.offsets))
        return self._with([Leaf(dim, size, 1) for dim, size in sizes.items()], offsets)

    def with_leaves(self, dims: Collection[int]) -> Cell:
        """The same cell with a leaf on each of these dimensions, of size 1 if it had none."""
        lacking = sorted(set(dims) - {leaf.dim for leaf in self.leaves})
        return self._with([Leaf(dim, 1, 1) for dim in lacking], self.offsets) if lacking else self

    def _with(self, new: Sequence[Leaf], offsets: tuple[int, ...]) -> Cell:
        """The cell with these leaves in place of those of their dimensions."""
        dims = {leaf.dim for leaf in new}
        kept = [k for k, leaf in enumerate(self.leaves) if leaf.dim not in dims]
        leaves = [(self.leaves[k], k) for k in kept] + [(leaf, None) for leaf in new]
        leaves.sort(key=lambda one: one[0].dim)
        place = {k: n for n, (_, k) in enumerate(leaves)}
        moves = tuple(
            replace(
                move,
                leaves=tuple(place[k] for k in move.leaves),
                keys=tuple(tuple(place[k] for k in key) for key in move.keys),
            )
            for move in self.moves
        )
        return Cell(offsets, tuple(leaf for leaf, _ in leaves), moves)

    def own_coordinates(self, dim: int) -> list[Index]:
        """As `coordinates`, with the leaves of all other dimensions held at 0."""
        zero: Index = np.zeros([1] * len(self.leaves), dtype=np.int64)
        here = self.coordinates()
        return [c if leaf.dim == dim else zero for leaf, c in zip(self.leaves, here, strict=True)]

    def sources(self, tables: Mapping[str, Index]) -> list[Index]:
        """The coordinate of each leaf in the old tensor: new = old[source]."""
        here = self.coordinates()
        found = list(here)
        for move in self.moves:
            if move.group not in tables:
                continue
            rows = tuple(self.ravel(here, key) for key in move.keys)
            moved = tables[move.group][(*rows, self.ravel(here, move.leaves))]
            for k in reversed(move.leaves):
                moved, found[k] = np.divmod(moved, self.leaves[k].size)
        return found

    def block(self, tensor: Tensor) -> Tensor:
        """The cell of a tensor with one dimension for each leaf, a view."""
        steps = tensor.stride()
        start = tensor.storage_offset() + sum(x * step for x, step in zip(self.offsets, steps, strict=True))
        sizes, strides = [leaf.size for leaf in self.leaves], [leaf.stride * steps[leaf.dim] for leaf in self.leaves]
        return tensor.as_strided(sizes, strides, start)

    def is_all_of(self, shape: Sequence[int]) -> bool:
        """Whether the cell is a tensor with its dimensions split into leaves, outer to inner."""
        dims = [leaf.dim for leaf in self.leaves]
        inner = all(a.dim != b.dim or a.stride == b.stride * b.size for a, b in pairwise(self.leaves))
        return self.size == prod(shape) and dims == sorted(dims) and inner and not any(self.offsets)

    def transformed(self, element: Mapping[str, Any], block: Tensor) -> Tensor:
        """A block, with one dimension for each leaf, transformed by the signs, scales and matrices of an element."""
        for move in self.moves:
            part = element.get(move.group)
            if isinstance(part, Monomial) and move.power:
                block = block * self._spread(part.scale, move, block) ** move.power
            elif isinstance(part, Matrix):
                block = self._mixed(part, move, block)
        return block

    def _spread(self, scale: Any, move: Move, block: Tensor) -> Tensor:
        """The factor of each element of a block."""
        here = self.coordinates()
        rows = tuple(torch.from_numpy(self.ravel(here, key)) for key in (*move.keys, move.leaves))
        return torch.as_tensor(scale, dtype=block.dtype, device=block.device)[rows]

    def _mixed(self, part: Matrix, move: Move, block: Tensor) -> Tensor:
        """Σ over j of matrix[row, i, j] block[row, j, ...], or with the inverse transposed."""
        known = move.power < 0 and not part.orthogonal and part.inverse is not None
        matrix = torch.as_tensor(part.inverse if known else part.matrix, dtype=block.dtype, device=block.device)
        if move.power < 0 and not part.orthogonal:
            matrix = (matrix if known else torch.linalg.inv(matrix)).mT
        keys = [k for key in move.keys for k in key]
        rest = [k for k in range(len(self.leaves)) if k not in (*keys, *move.leaves)]
        matrix = matrix.reshape(-1, *matrix.shape[-2:])
        rows, units = (prod(self.leaves[k].size for k in leaves) for leaves in (keys, move.leaves))
        if [*keys, *rest, *move.leaves] == list(range(len(self.leaves))):
            return (block.reshape(rows, -1, units) @ matrix.mT).reshape(block.shape)
        order = [*keys, *move.leaves, *rest]
        mixed = matrix @ block.permute(order).reshape(rows, units, -1)
        return mixed.reshape([self.leaves[k].size for k in order]).permute(*np.argsort(order).tolist())

    def ravel(self, coordinates: list[Index], leaves: tuple[int, ...]) -> Index:
        """The row-major index over these leaves, for the given coordinates."""
        index: Index = np.zeros([1] * len(self.leaves), dtype=np.int64)
        for k in leaves:
            index = index * self.leaves[k].size + coordinates[k]
        return index

    def positions(self, dim: int, coordinates: list[Index]) -> Index:
        """Positions on a dimension for the given coordinates, broadcasting over all leaves."""
        index: Index = np.full([1] * len(self.leaves), self.offsets[dim], dtype=np.int64)
        for leaf, coordinate in zip(self.leaves, coordinates, strict=True):
            if leaf.dim == dim:
                index = index + leaf.stride * coordinate
        return index
