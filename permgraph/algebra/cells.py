"""The cells of a tensor: one box on each dimension, and an occurrence for each leaf of each box.

Cells start as a grid. Where parts of a cut axis turn out to be one (`coarsening`), a cell absorbs those that
continue it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from permgraph.algebra.axes import Axis, Box, boxes
from permgraph.algebra.relations import Value


@dataclass(frozen=True, order=True)
class Occurrence:
    """One factor at one place: leaf `position` of dimension `dim` in cell `cell` of the tensor `tensor`."""

    tensor: str
    cell: tuple[int, ...]
    dim: int
    position: int


class TensorLayout:
    """The cells of a tensor, and a lookup of the boxes of its dimensions by place and shape."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.boxes: tuple[tuple[Box, ...], ...] = tuple(boxes(axis) for axis in value.axes)
        self._index = [{(box.offset, box.shape): k for k, box in enumerate(dim)} for dim in self.boxes]
        self.absorbed: set[tuple[int, ...]] = set()
        self.grown: dict[Occurrence, int] = {}

    def find(self, dim: int, offset: int, shape: tuple[tuple[int, int], ...]) -> int | None:
        """The index of the box at `offset` with these (size, stride) leaves, if there is one."""
        return self._index[dim].get((offset, shape))

    def cells(self) -> Iterator[tuple[int, ...]]:
        """All cells, each as the index of its (first) box on every dimension."""
        grid = product(*(range(len(dim)) for dim in self.boxes))
        return (cell for cell in grid if cell not in self.absorbed) if self.absorbed else grid

    def occurrences(self, cell: tuple[int, ...]) -> Iterator[tuple[Occurrence, Axis]]:
        """The occurrences in a cell with the axis of each leaf."""
        for dim, index in enumerate(cell):
            for position, leaf in enumerate(self.boxes[dim][index].leaves):
                yield Occurrence(self.value.name, cell, dim, position), leaf.axis.root()

    def size(self, occurrence: Occurrence) -> int:
        """How many units an occurrence has."""
        box = self.boxes[occurrence.dim][occurrence.cell[occurrence.dim]]
        return self.grown.get(occurrence) or box.leaves[occurrence.position].size

    def stride(self, occurrence: Occurrence) -> int:
        """How far apart on its dimension the units of an occurrence are."""
        return self.boxes[occurrence.dim][occurrence.cell[occurrence.dim]].leaves[occurrence.position].stride

    def next(self, occurrence: Occurrence) -> Occurrence | None:
        """The occurrence whose units go on where those of this one end, all else in the cell being alike."""
        dim, cell = occurrence.dim, occurrence.cell
        for k in range(len(self.boxes[dim])):
            if continues(self.boxes[dim][cell[dim]], self.boxes[dim][k], occurrence.position):
                return Occurrence(occurrence.tensor, (*cell[:dim], k, *cell[dim + 1 :]), dim, occurrence.position)
        return None


def continues(first: Box, second: Box, position: int) -> bool:
    """Whether `second` begins where the leaf `position` of `first` ends, and differs from it in nothing else."""
    leaf = first.leaves[position]
    if second.offset != first.offset + leaf.size * leaf.stride or len(first.leaves) != len(second.leaves):
        return False
    return all(
        a[1] == b[1] and (k == position or a[0] == b[0])
        for k, (a, b) in enumerate(zip(first.shape, second.shape, strict=True))
    )
