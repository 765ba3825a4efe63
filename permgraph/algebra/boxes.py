"""An axis as boxes: what is left of it when one segment is chosen at every sum in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

    @property
    def shape(self) -> tuple[tuple[int, int], ...]:
        """(size, stride) of each leaf, outer to inner."""
        return tuple((leaf.size, leaf.stride) for leaf in self.leaves)


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
