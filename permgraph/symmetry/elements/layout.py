"""How an element of the group acts on a tensor that is partitioned into cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements.cells import Cell
from permgraph.symmetry.elements.parts import Index, Matrix, changes_numbers, index_of

AT_ONCE = 2**23  # elements of a tensor moved at once, if the rows of its first dimension do not move


@dataclass(frozen=True)
class Layout:
    """The cells of a tensor of this shape; together they cover it once."""

    shape: tuple[int, ...]
    cells: tuple[Cell, ...]

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The groups that act on the tensor, in order of first appearance."""
        return tuple(dict.fromkeys(move.group for cell in self.cells for move in cell.moves))

    def axes_of(self, group: str) -> tuple[int, ...]:
        """The dimensions that a group acts on."""
        dims = {
            cell.leaves[k].dim for cell in self.cells for move in cell.moves if move.group == group for k in move.leaves
        }
        return tuple(sorted(dims))

    def positions_of(self, group: str, dim: int) -> tuple[int, ...]:
        """The positions of a dimension that a group acts on, or that select a group of single units."""
        found: set[int] = set()
        for cell in self.cells:
            for move in cell.moves:
                leaves = move.leaves or tuple(k for key in move.keys for k in key)
                if move.group == group and any(cell.leaves[k].dim == dim for k in leaves):
                    found.update(cell.positions(dim, cell.coordinates()).ravel().tolist())
        return tuple(sorted(found))

    @property
    def moved_elements(self) -> int:
        """How many elements some group moves."""
        return sum(cell.size for cell in self.cells if cell.moves)

    def apply(self, element: Mapping[str, Any], tensor: Tensor, least: torch.dtype = torch.float64) -> Tensor:
        """The moved tensor: new, of the same dtype and device. Groups that the element lacks do not move.

        Products are computed in `least` or wider. A tensor of another shape is moved by the layout `sized` for it.
        """
        if tuple(tensor.shape) != self.shape:
            return self.sized(tuple(tensor.shape)).apply(element, tensor, least)
        if tensor.numel() > AT_ONCE and len(self.cells) == 1 and not self.cells[0].touches({0}):
            some = tensor.chunk(-(-tensor.numel() // AT_ONCE))
            if len(some) > 1:
                return torch.cat([self.apply(element, rows, least) for rows in some])
        parts = {name: element[name] for name in self.groups if name in element}
        tables = {name: index_of(part) for name, part in parts.items() if not isinstance(part, Matrix)}
        moved = self._permuted(tables, tensor) if tables else tensor
        powers = {move.group for cell in self.cells for move in cell.moves if move.power}
        changing = {
            name: part
            for name, part in parts.items()
            if (isinstance(part, Matrix) or name in powers) and changes_numbers(part)
        }
        if changing:
            moved = self._transformed(changing, moved, torch.promote_types(tensor.dtype, least)).to(tensor.dtype)
        return moved.clone() if moved is tensor else moved

    def _permuted(self, tables: Mapping[str, Index], tensor: Tensor) -> Tensor:
        """The tensor itself where nothing moves."""
        per_axis = self.axis_permutations(tables)
        if per_axis is None:
            return self._gather(tables, tensor)
        for dim, index in enumerate(per_axis):
            if index is not None:
                tensor = _selected(tensor, dim, torch.from_numpy(index).to(tensor.device))
        return tensor

    def axis_permutations(self, tables: Mapping[str, Index]) -> list[Index | None] | None:
        """An index vector for each dimension, None for an unmoved one; None for all if dimensions move jointly."""
        found: list[Index | None] = [None] * len(self.shape)
        known = [np.full(size, -1, dtype=np.int64) for size in self.shape]
        for cell in self.cells:
            sources, here = cell.sources(tables), cell.coordinates()
            for dim in range(len(self.shape)):
                source, target = cell.positions(dim, sources), cell.positions(dim, here)
                if source.size > target.size:
                    return None
                source, target = source.ravel(), np.broadcast_to(target, source.shape).ravel()
                if np.any((known[dim][target] >= 0) & (known[dim][target] != source)):
                    return None
                known[dim][target] = source
        for dim, index in enumerate(known):
            if not np.array_equal(index, np.arange(index.size)):
                found[dim] = index
        return found

    def _gather(self, tables: Mapping[str, Index], tensor: Tensor) -> Tensor:
        """Gather cell by cell, with an index array for each dimension; a dimension that no move uses is a slice."""
        result = tensor.clone()
        for cell in self.cells:
            here, moved = cell.coordinates(), cell.sources(tables)
            targets, sources = ([cell.positions(dim, c) for dim in range(len(self.shape))] for c in (here, moved))
            plain = [self._is_plain(cell, dim, targets, sources) for dim in range(len(self.shape))]
            new, old = (
                tuple(
                    slice(None) if whole else torch.from_numpy(x).to(tensor.device)
                    for whole, x in zip(plain, side, strict=True)
                )
                for side in (targets, sources)
            )
            result[new] = tensor[old]
        return result

    def _transformed(self, element: Mapping[str, Any], tensor: Tensor, wide: torch.dtype) -> Tensor:
        """Signs, scales and matrices, cell by cell."""
        tensor = tensor.to(wide)
        if len(self.cells) == 1 and self.cells[0].is_all_of(self.shape):
            return self.cells[0].transformed(element, self.cells[0].block(tensor)).reshape(self.shape)
        result = tensor.clone()
        for cell in self.cells:
            block = cell.block(tensor)
            if (changed := cell.transformed(element, block)) is not block:
                cell.block(result).copy_(changed)
        return result

    def sized(self, shape: tuple[int, ...]) -> Layout:
        """The layout of an output of another shape, such as another batch size; no group may act on dims that differ.

        Raises SpecMismatchError if one does.
        """
        other = {dim for dim, size in enumerate(self.shape) if shape[dim : dim + 1] != (size,)}
        if len(shape) != len(self.shape) or any(cell.touches(other) for cell in self.cells):
            raise SpecMismatchError(
                f"a tensor of shape {shape} is moved as one of shape {self.shape} was traced, where groups act on the "
                "dims that differ: derive the specification for inputs of this shape"
            )
        cells = dict.fromkeys(cell.sized({dim: shape[dim] for dim in other}) for cell in self.cells)
        return Layout(shape, tuple(cells))

    def _is_plain(self, cell: Cell, dim: int, targets: list[Index], sources: list[Index]) -> bool:
        """Whether a dimension is covered whole, unmoved, and selects no permutation of another dimension."""
        if sources[dim].size != self.shape[dim] or not np.array_equal(sources[dim], targets[dim]):
            return False
        own = [k for k, leaf in enumerate(cell.leaves) if leaf.dim == dim]
        return not any(source.shape[k] > 1 for d, source in enumerate(sources) if d != dim for k in own)


def _selected(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """`index_select`, with a faster way on the CPU if single elements are picked."""
    if dim == tensor.dim() - 1 > 0:
        return tensor.gather(dim, index.expand(tensor.shape))
    return tensor.index_select(dim, index)
