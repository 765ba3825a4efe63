"""The cells of a tensor: one box on each dimension, and an occurrence for each leaf of each box.

Cells start as a grid. If parts of a cut axis turn out to be one (`coarsening`), a cell absorbs the cells that continue
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from permgraph.algebra.axes import Axis
from permgraph.algebra.boxes import Box, Partition, Partitions
from permgraph.algebra.relations import Value


class Occurrence(NamedTuple):
    """One factor at one place: leaf `position` of dimension `dim` in cell `cell` of the tensor `tensor`."""

    tensor: str
    cell: tuple[int, ...]
    dim: int
    position: int


class TensorLayout:
    """The cells of a tensor, and the partition of each of its dimensions into boxes."""

    def __init__(self, value: Value, partitions: Partitions) -> None:
        self.value = value
        self.partitions = tuple(partitions.of(axis) for axis in value.axes)
        self.boxes: tuple[tuple[Box, ...], ...] = tuple(partition.boxes for partition in self.partitions)
        self.absorbed: set[tuple[int, ...]] = set()
        self.grown: dict[Occurrence, tuple[int, int]] = {}

    def find(self, dim: int, offset: int, shape: tuple[tuple[int, int], ...]) -> int | None:
        """The index of the box at `offset` with these (size, stride) leaves, if there is one."""
        return self.partitions[dim].find(offset, shape)

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
        return self._extent(occurrence)[0]

    def stride(self, occurrence: Occurrence) -> int:
        """How far apart on its dimension the units of an occurrence are."""
        return self._extent(occurrence)[1]

    def _extent(self, occurrence: Occurrence) -> tuple[int, int]:
        return self.grown.get(occurrence) or self._box(occurrence).shape[occurrence.position]

    def _box(self, occurrence: Occurrence) -> Box:
        return self.boxes[occurrence.dim][occurrence.cell[occurrence.dim]]

    def offset(self, occurrence: Occurrence) -> int:
        """Where on its dimension the first unit of an occurrence is."""
        return self._box(occurrence).offset

    def next(self, occurrence: Occurrence, *, in_turn: bool) -> Occurrence | None:
        """The occurrence that continues this one (`goes_on`), in a cell that is otherwise the same."""
        dim, cell = occurrence.dim, occurrence.cell
        k = next_box(self.partitions[dim], cell[dim], occurrence.position, in_turn=in_turn)
        return None if k is None else occurrence._replace(cell=(*cell[:dim], k, *cell[dim + 1 :]))


def next_box(partition: Partition, current: int, position: int, *, in_turn: bool) -> int | None:
    """The index of the nearest box that continues the leaf `position` of the current one."""
    first = partition.boxes[current]
    size, stride = first.shape[position]
    start, stop = (
        (first.offset + 1, first.offset + stride) if in_turn else (end := first.offset + size * stride, end + 1)
    )
    near = (k for k in partition.starting(start, stop) if goes_on(first, partition.boxes[k], position, in_turn=in_turn))
    return next(near, None)


def goes_on(first: Box, second: Box, position: int, *, in_turn: bool) -> bool:
    """Whether `second` differs from `first` only in the positions of the units of the leaf `position`.

    They begin where those of `first` end or, with `in_turn`, alternate with them, as odd with even positions.
    """
    size, stride = first.shape[position]
    step = second.offset - first.offset
    if len(first.leaves) != len(second.leaves) or not (0 < step < stride if in_turn else step == size * stride):
        return False
    return all(
        a[1] == b[1] and (a[0] == b[0] or (k == position and not in_turn))
        for k, (a, b) in enumerate(zip(first.shape, second.shape, strict=True))
    )
