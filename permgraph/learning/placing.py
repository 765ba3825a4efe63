"""B's weights under an element that is differentiated: what no step changes is laid out once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import LazyState
from permgraph.symmetry.elements.cells import Cell
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass(frozen=True)
class Laid:
    """A tensor cut into its cells, each with a dimension for every leaf, and where every element comes from."""

    shape: tuple[int, ...]
    cells: tuple[Cell, ...]
    blocks: tuple[Tensor, ...]
    back: Tensor | None

    @classmethod
    def of(cls, layout: Layout, tensor: Tensor, groups: Collection[str]) -> Laid:
        """The cells of a layout, moved by these groups alone."""
        cells = tuple(
            replace(cell, moves=tuple(move for move in cell.moves if move.group in groups)) for cell in layout.cells
        )
        if len(cells) == 1 and cells[0].is_all_of(layout.shape):
            return cls(layout.shape, cells, (cells[0].block(tensor),), None)
        places = [_places(cell, layout.shape) for cell in cells]
        flat = tensor.reshape(-1)
        blocks = tuple(
            flat[torch.from_numpy(place).to(flat.device)].reshape([leaf.size for leaf in cell.leaves])
            for place, cell in zip(places, cells, strict=True)
        )
        order = np.concatenate(places)
        if np.array_equal(order, np.arange(order.size)):
            return cls(layout.shape, cells, blocks, None)
        return cls(layout.shape, cells, blocks, torch.from_numpy(np.argsort(order)).to(flat.device))

    def under(self, element: Mapping[str, Any]) -> Tensor:
        """The tensor under signs, scales and matrices."""
        moved = [cell.transformed(element, block) for cell, block in zip(self.cells, self.blocks, strict=True)]
        if len(moved) == 1 and self.back is None:
            return moved[0].reshape(self.shape)
        flat = torch.cat([block.reshape(-1) for block in moved])
        return (flat if self.back is None else flat[self.back]).reshape(self.shape)


def _places(cell: Cell, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where the elements of a cell, leaf after leaf, are in the flattened tensor."""
    here, found = cell.coordinates(), np.zeros([leaf.size for leaf in cell.leaves], dtype=np.int64)
    for dim, size in enumerate(shape):
        found = found * size + cell.positions(dim, here)
    return found.ravel()


class Placed:
    """State-dict entries of B under an element that holds parts for `groups` alone.

    Tensors in memory are laid out once; those that are read on demand, each time.
    """

    def __init__(self, spec: PermutationSpec, state: Mapping[str, Tensor], groups: Collection[str]) -> None:
        self.state, self.groups = state, groups
        self.layouts = {
            name: layout
            for name, layout in spec.layouts.items()
            if any(move.group in groups for cell in layout.cells for move in cell.moves)
        }
        self.laid = {} if isinstance(state, LazyState) else {name: self._laid(name) for name in self.layouts}

    def __call__(self, element: Mapping[str, Any], name: str) -> Tensor:
        """One entry, moved."""
        if name not in self.layouts:
            return self.state[name]
        return (self.laid[name] if name in self.laid else self._laid(name)).under(element)

    def _laid(self, name: str) -> Laid:
        return Laid.of(self.layouts[name], self.state[name], self.groups)
