"""Tables of positions that hold the places of an image: recognised in the graph of A, and brought to A's grid.

The rows that belong to no place (class token, registers) come first and stay as they are. The others are an image of
B's grid, which is resized to A's as pretrained vision transformers are for another resolution (bicubic, with
antialiasing; Dosovitskiy et al., arXiv 2010.11929, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt, prod

import torch
from torch import Tensor, fx
from torch.nn.functional import interpolate

from permgraph.tracing.program import op_name

PLANES = ("aten.conv2d",)
TABLES = ("aten.embedding",)
SAME_NUMBERS = (
    "aten.view", "aten.reshape", "aten._unsafe_view", "aten.to", "aten._to_copy", "aten.clone", "aten.contiguous",
    "aten.alias", "aten.slice", "aten.select", "aten.unsqueeze", "aten.squeeze", "aten.flatten", "aten.expand",
    "aten.lift_fresh_copy", "aten.detach_", "aten.detach", "aten.transpose", "aten.permute",
)  # fmt: skip
"""Operations whose result holds the very numbers of their operand."""
CARRIED = (*SAME_NUMBERS, *TABLES, "aten.cat", "aten.upsample_bicubic2d", "aten.upsample_bilinear2d",
           "aten._upsample_bicubic2d_aa", "aten._upsample_bilinear2d_aa")  # fmt: skip
"""Operations through which a table comes to where it is added."""
CHECKS = ("aten._assert_tensor_metadata",)
MOST_OTHERS = 16
"""Rows that belong to no place."""


@dataclass(frozen=True)
class Grid:
    """A table of `others` rows and then one for each place of A's grid, or of B's; each as (height, width)."""

    others: int
    a: tuple[int, int]
    b: tuple[int, int]

    @property
    def rule(self) -> str:
        """How B's rows become A's, in words."""
        others = f", {self.others} more in order" if self.others else ""
        return f"the grid of {_size(self.b)} places in B is resized to {_size(self.a)}, bicubic{others}"

    def matrix(self) -> Tensor:
        """[A's rows, B's rows]: the matrix by which B's rows become A's."""
        places = torch.eye(prod(self.b), dtype=torch.float64).view(-1, 1, *self.b)
        resized = interpolate(places, self.a, mode="bicubic", antialias=True).flatten(1)
        whole = torch.eye(self.others + prod(self.a), self.others + prod(self.b), dtype=torch.float64)
        whole[self.others :, self.others :] = resized.T
        return whole


def grid_of(table: fx.Node, a: int, b: int) -> Grid | None:
    """The grid of a table with `a` rows in A and `b` in B that is added to what a convolution makes of an image."""
    planes = [plane for summand in _summands(table) for plane in _planes(summand)]
    found = {None if plane is None else grid_like(plane, a, b) for plane in planes}
    return found.pop() if len(found) == 1 else None


def grid_like(plane: tuple[int, int], a: int, b: int) -> Grid | None:
    """The grid if `a` rows are the places of `plane` and a few more, and `b` as many more than a plane of its form."""
    others, (height, width) = a - prod(plane), plane
    rows = isqrt(max(b - others, 0) * height // width)
    other = rows, rows * width // height
    fits = 0 <= others <= MOST_OTHERS and prod(other) == b - others and rows * width == other[1] * height
    return Grid(others, plane, other) if fits and min(plane) > 1 else None


def _summands(table: fx.Node) -> Iterator[fx.Node | None]:
    """What a table is added to, everywhere; None where it comes to another operation."""
    waiting, seen = [table], set[fx.Node]()
    while waiting:
        node = waiting.pop()
        for user in node.users:
            name = op_name(user.target)
            if name in CARRIED and user not in seen:
                seen.add(user)
                waiting.append(user)
            elif name not in (*CARRIED, *CHECKS):
                summands = [arg for arg in user.args[:2] if arg is not node]
                added = name in ("aten.add", "aten.add_") and len(summands) == 1
                yield summands[0] if added and isinstance(summands[0], fx.Node) else None


def _planes(node: fx.Node | None) -> list[tuple[int, int] | None]:
    """Height and width of what the convolutions before a node make; [None] if there are none."""
    waiting, seen, found = [] if node is None else [node], set[fx.Node](), list[tuple[int, int] | None]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if op_name(one.target) in PLANES:
            height, width = one.meta["val"].shape[2:]
            found.append((int(height), int(width)))
        else:
            waiting += one.all_input_nodes
    return found or [None]


def _size(grid: tuple[int, int]) -> str:
    return f"{grid[0]} × {grid[1]}"
