"""Tables of positions that hold the places of an image: recognised in the graph of A, and brought to A's grid.

The rows of no place (class token, registers, detection tokens) stay as they are. The others are an image of B's grid:
they are where the places of a convolution are in what the table is added to. It is resized to A's grid as pretrained
vision transformers are for another resolution (bicubic, with antialiasing). Source: arXiv 2010.11929, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

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
PARTS = ("aten.slice", "aten.select")


@dataclass(frozen=True)
class Grid:
    """A table with a row for each place of A's grid or of B's, (height, width), between `before` and `after` more."""

    a: tuple[int, int]
    b: tuple[int, int]
    before: int = 0
    after: int = 0

    @property
    def rule(self) -> str:
        """How B's rows become A's, in words."""
        others = self.before + self.after
        more = f", {others} more in order" if others else ""
        return f"the grid of {_size(self.b)} places in B is resized to {_size(self.a)}, bicubic{more}"

    def matrix(self) -> Tensor:
        """[A's rows, B's rows]: the matrix by which B's rows become A's."""
        places = torch.eye(prod(self.b), dtype=torch.float64, device="cpu").view(-1, 1, *self.b)
        resized = interpolate(places, self.a, mode="bicubic", antialias=True).flatten(1).T
        first, sizes = self.before, [self.before + prod(grid) + self.after for grid in (self.a, self.b)]
        whole = torch.zeros(*sizes, dtype=torch.float64, device="cpu")
        whole[:first, :first] = torch.eye(first, device="cpu")
        whole[first : first + len(resized), first : first + prod(self.b)] = resized
        whole[first + len(resized) :, first + prod(self.b) :] = torch.eye(self.after, device="cpu")
        return whole


def grid_of(table: fx.Node, a: int, b: int) -> Grid | None:
    """The grid of a table with `a` rows in A and `b` in B that is added to what a convolution makes of an image."""
    found = {None if summand is None else _grid(summand, a, b) for summand in _summands(table)}
    return found.pop() if len(found) == 1 else None


def _grid(summand: fx.Node, a: int, b: int) -> Grid | None:
    planes = _planes(summand)
    before = _rows_before(summand, a, prod(planes[0])) if len(set(planes)) == 1 else None
    if before is None:
        return None
    after = a - before - prod(planes[0])
    other = resized_plane(planes[0], b - before - after)
    return None if other is None else Grid(planes[0], other, before, after)


def resized_plane(plane: tuple[int, int], places: int) -> tuple[int, int] | None:
    """Height and width of a plane of the form of another with so many places; None if there is none."""
    height, width = plane
    rows = isqrt(max(places, 0) * height // width)
    other = rows, rows * width // height
    fits = prod(other) == places and rows * width == other[1] * height and min(*plane, *other) > 1
    return other if fits else None


def _rows_before(node: fx.Node, rows: int, places: int) -> int | None:
    """How many of the rows of a node come before those that a convolution makes; None where that is not known."""
    while op_name(node.target) in SAME_NUMBERS and op_name(node.target) not in PARTS:
        node = node.args[0]  # type: ignore[assignment]
    if op_name(node.target) != "aten.cat":
        return 0 if rows == places else None
    given: Any = node.args
    parts, dim = list(given[0]), given[1] if len(given) > 1 else 0
    sizes = [int(part.meta["val"].shape[dim]) for part in parts]
    inner = [k for k, part in enumerate(parts) if _planes(part)]
    if sum(sizes) != rows or len(inner) != 1:
        return None
    found = _rows_before(parts[inner[0]], sizes[inner[0]], places)
    return None if found is None else sum(sizes[: inner[0]]) + found


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


def _planes(node: fx.Node) -> list[tuple[int, int]]:
    """Height and width of what the last convolutions before a node make."""
    waiting, seen, found = [node], set[fx.Node](), list[tuple[int, int]]()
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
    return found


def _size(grid: tuple[int, int]) -> str:
    return f"{grid[0]} × {grid[1]}"
