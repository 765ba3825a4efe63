"""Axes as products and sums of smaller axes.

An `Axis` of size n is a whole, an ordered **product** of axes (768 seen as 12 heads of 64), or a **sum** of
consecutive segments (a fused projection seen as its thirds). `cutting` cuts axes into segments, `tying` splits them
into factors and ties two of them. This module has only the geometry; `ties` decides which permutations are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import prod
from typing import Literal


class Axis:
    """A node of a union-find over index sets of one size; `root()` is its representative.

    `frozen` says why nothing in the axis may move, or is empty. A frozen axis is not refined: a split or a cut of it
    returns fresh frozen axes, because parts of an axis that cannot move need not be distinguished.
    """

    __slots__ = ("_parent", "_starts", "cut_by", "form", "frozen", "parts", "size")

    def __init__(self, size: int, frozen: str = "") -> None:
        self.size = size
        self.form: Literal["whole", "product", "sum"] = "whole"
        self.parts: tuple[Axis, ...] = ()
        self.frozen = frozen
        self.cut_by = ""
        self._parent: Axis = self
        self._starts: list[int] = []

    def root(self) -> Axis:
        """The representative of all axes tied to this one."""
        axis = self
        while axis._parent is not axis:
            axis._parent = axis._parent._parent
            axis = axis._parent
        return axis

    def refine(self, form: Literal["product", "sum"], parts: Iterable[Axis]) -> None:
        """Give a whole axis its parts; the parts of a frozen axis are frozen too."""
        self.form, self.parts, self._starts = form, tuple(parts), []
        if self.frozen:
            for part in self.parts:
                freeze(part, self.frozen)

    def starts(self) -> list[int]:
        """Where each segment of a sum starts, and where the last one ends."""
        if not self._starts:
            self._starts = [0, *accumulate(part.size for part in self.parts)]
        return self._starts

    def open_parts(self, opened: Sequence[int]) -> None:
        """Replace the segments `opened`, which have become sums, by their segments: a sum does not contain sums."""
        parts, done = list[Axis](), 0
        for k in opened:
            part = self.parts[k].root()
            parts += [*self.parts[done:k], *(part.parts if part.form == "sum" else [part])]
            done = k + 1
        self.parts, self._starts = (*parts, *self.parts[done:]), []


def freeze(axis: Axis, reason: str) -> None:
    """Pin everything in `axis`; the first reason is kept."""
    root = axis.root()
    root.frozen = root.frozen or reason
    for part in root.parts:
        if not part.root().frozen:
            freeze(part, reason)


def settle(axis: Axis) -> None:
    """Freeze a sum whose segments are all frozen, so that later cuts of it make no cells."""
    root = axis.root()
    if root.form == "sum" and not root.frozen and all(part.root().frozen for part in root.parts):
        root.frozen = root.parts[0].root().frozen


def product_of(parts: Sequence[Axis]) -> Axis:
    """The axis whose index is the tuple of indices of `parts`, outer to inner."""
    proper = [part for part in parts if part.size != 1]
    if len(proper) == 1:
        return proper[0]
    axis = Axis(prod(part.size for part in proper))
    if proper:
        axis.refine("product", proper)
    return axis


def sum_of(parts: Sequence[Axis]) -> Axis:
    """The axis that is `parts` one after the other."""
    proper = [part for part in parts if part.size]
    if len(proper) == 1:
        return proper[0]
    axis = Axis(sum(part.size for part in proper))
    axis.refine("sum", proper)
    return axis


def chain(axis: Axis) -> list[Axis]:
    """The parts of a product with the products inside it opened, outer to inner."""
    root = axis.root()
    if root.form != "product":
        return [root]
    return [link for part in root.parts for link in chain(part)]


def segments_of(axis: Axis, offset: int) -> Iterator[tuple[tuple[int, int], Axis]]:
    """(start, stop) and axis of the segments of a sum, those of sums inside it opened too."""
    for part in axis.root().parts:
        if part.root().form == "sum":
            yield from segments_of(part, offset)
        yield (offset, offset := offset + part.size), part
