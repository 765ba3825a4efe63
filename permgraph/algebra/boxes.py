"""An axis as boxes: each is the part of the axis for one choice of a segment at every sum in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from permgraph.algebra.axes import Axis


@dataclass(frozen=True)
class Leaf:
    """A factor of a box: `size` indices, `stride` apart on the axis."""

    axis: Axis
    size: int
    stride: int


@dataclass(frozen=True)
class Box:
    """The positions `offset + Σ leaf.stride * index` of an axis: one choice of a segment at every sum in it."""

    offset: int
    leaves: tuple[Leaf, ...]

    @cached_property
    def shape(self) -> tuple[tuple[int, int], ...]:
        """(size, stride) of each leaf, outer to inner."""
        return tuple((leaf.size, leaf.stride) for leaf in self.leaves)

    @cached_property
    def last(self) -> int:
        """The largest position."""
        return self.offset + sum((leaf.size - 1) * leaf.stride for leaf in self.leaves)


class Partition:
    """All boxes of an axis in a fixed order, with fast lookups by position."""

    def __init__(self, boxes: tuple[Box, ...]) -> None:
        self.boxes = boxes

    def find(self, offset: int, shape: tuple[tuple[int, int], ...]) -> int | None:
        """The index of the box at `offset` with these (size, stride) leaves, if there is one."""
        return self._index.get((offset, shape))

    def starting(self, start: int, stop: int) -> Iterator[int]:
        """The indices of the boxes whose offset is in this range, by offset."""
        for place in range(bisect_left(self._offsets, start), len(self._order)):
            if self._offsets[place] >= stop:
                return
            yield self._order[place]

    def meeting(self, start: int, stop: int) -> Iterator[int]:
        """The indices of the boxes in this range or across an edge of it, by offset."""
        for k in self.starting(start - self._reach, stop):
            if self.boxes[k].last >= start:
                yield k

    @cached_property
    def _index(self) -> dict[tuple[int, tuple[tuple[int, int], ...]], int]:
        return {(box.offset, box.shape): k for k, box in enumerate(self.boxes)}

    @cached_property
    def _order(self) -> list[int]:
        return sorted(range(len(self.boxes)), key=lambda k: self.boxes[k].offset)

    @cached_property
    def _offsets(self) -> list[int]:
        return [self.boxes[k].offset for k in self._order]

    @cached_property
    def _reach(self) -> int:
        return max((box.last - box.offset for box in self.boxes), default=0)


class Partitions:
    """The partition of every axis, computed once for tied axes; the axes must not change any more."""

    def __init__(self) -> None:
        self._found: dict[Axis, Partition] = {}

    def of(self, axis: Axis) -> Partition:
        """The partition of `axis`."""
        root = axis.root()
        if root not in self._found:
            self._found[root] = Partition(boxes(root))
        return self._found[root]


def boxes(axis: Axis) -> tuple[Box, ...]:
    """The boxes that partition `axis`, in a fixed order; leaves of size 1 are left out."""
    root = axis.root()
    if root.form == "whole":
        return (Box(0, (Leaf(root, root.size, 1),) if root.size > 1 else ()),)
    if root.form == "sum":
        found, offset = [], 0
        for part in root.parts:
            found += [Box(offset + box.offset, box.leaves) for box in boxes(part)]
            offset += part.size
        return tuple(found)
    return tuple(_product_box(choice, root.parts) for choice in product(*map(boxes, root.parts)))


def _product_box(choice: Sequence[Box], parts: Sequence[Axis]) -> Box:
    offset, stride = 0, 1
    leaves: list[list[Leaf]] = []
    for box, part in zip(reversed(choice), reversed(parts), strict=True):
        offset += box.offset * stride
        leaves.append([Leaf(leaf.axis, leaf.size, leaf.stride * stride) for leaf in box.leaves])
        stride *= part.size
    return Box(offset, tuple(leaf for group in reversed(leaves) for leaf in group))
