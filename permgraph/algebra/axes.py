"""Axes as products and sums of smaller axes: how the index sets of a model split, cut and coincide.

An `Axis` of size n is a whole, an ordered **product** of axes (768 seen as 12 heads of 64), or a **sum** of
consecutive segments (a fused projection seen as its thirds). Axes that must coincide are tied: both get the common
refinement of their structures. Only geometry lives here; which permutations are allowed is decided in `ties`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from math import gcd, prod
from typing import Literal

MAX_SEGMENTS = 4096  # a finer cut than this is refused, and the axis pinned


class Axis:
    """A node of a union-find over index sets of one size; `root()` is its representative.

    `frozen` says why nothing in the axis may move, or is empty. A frozen axis is not refined on request: a split or
    a cut of it gives fresh frozen axes, because the parts of what cannot move need no names.
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
        """Give a whole axis its parts; of a frozen axis the parts are frozen too."""
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
        """Put in place of the segments `opened`, which are sums by now, their segments: a sum is not in a sum."""
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


def split(axis: Axis, sizes: Sequence[int], reason: str) -> list[Axis]:
    """Axes of the given `sizes`, outer to inner, whose product is `axis`."""
    root = axis.root()
    proper = [size for size in sizes if size != 1]
    if root.frozen and root.form != "product":
        return [Axis(size, root.frozen) for size in sizes]
    if len(proper) <= 1:
        return [root if size != 1 else Axis(1) for size in sizes]
    fresh = [Axis(size) for size in proper]
    if root.form == "sum" and not _blocks_of_sum(root, proper, fresh, reason):
        freeze(root, reason)
        return [Axis(size, root.frozen) for size in sizes]
    if root.form == "whole":
        root.refine("product", fresh)
    else:
        _tie_chains(_chain(root), fresh, reason)
    pieces = iter(fresh)
    return [next(pieces) if size != 1 else Axis(1) for size in sizes]


def _blocks_of_sum(root: Axis, sizes: Sequence[int], fresh: Sequence[Axis], reason: str) -> bool:
    """Rewrite a sum as (sum of outer segments) × block; every block gets the same geometry, not the same movement."""
    block = prod(sizes[1:])
    if not _blocks_nest(root, block):
        return False
    points = {0, sizes[0]}
    offset = 0
    for part in root.parts:
        offset += part.size
        points |= {offset // block, -(-offset // block)}
    ordered = sorted(points)
    if len(ordered) > MAX_SEGMENTS:
        return False
    outer, inner = [], Axis(block)
    for start, stop in pairwise(ordered):
        piece = take(root, start * block, stop * block, reason)
        count, one = split(piece, [stop - start, block], reason) if stop - start > 1 else (Axis(1), piece)
        outer.append(count)
        tie(inner, one, reason)
    segments = sum_of(outer)
    segments.root().cut_by = reason
    root.refine("product", [segments, inner])
    return True


def _blocks_nest(root: Axis, block: int) -> bool:
    """Whether cuts at the multiples of `block` leave the innermost blocks of every segment whole, or divide them."""
    offset = 0
    for part in root.parts:
        if part.root().form == "product":
            inner, first = _chain(part)[-1].size, -offset % block
            whole, divided = first % inner == 0 == block % inner, first == 0 == inner % block
            if first < part.size and not (whole or divided):
                return False
        offset += part.size
    return True


def cut(axis: Axis, points: Iterable[int], reason: str) -> None:
    """Cut `axis` into segments at `points`; what cannot be cut there is frozen."""
    root = axis.root()
    inside = sorted({point for point in points if 0 < point < root.size})
    if not inside or root.frozen:
        return
    if root.form == "whole":
        bounds = [0, *inside, root.size]
        root.refine("sum", [Axis(stop - start) for start, stop in pairwise(bounds)])
        root.cut_by = reason
    elif root.form == "sum":
        _cut_sum(root, inside, reason)
    else:
        _cut_product(root, inside, reason)


def _cut_sum(root: Axis, points: Sequence[int], reason: str) -> None:
    starts = root.starts()
    inside: dict[int, list[int]] = {}
    for point in points:
        k = bisect_right(starts, point) - 1
        if point != starts[k]:
            inside.setdefault(k, []).append(point - starts[k])
    for k, places in inside.items():
        cut(root.parts[k], places, reason)
    if inside:
        root.open_parts(list(inside))
        if root.size > MAX_SEGMENTS and _count_boxes(root) > MAX_SEGMENTS:
            freeze(root, reason)


def _count_boxes(axis: Axis) -> int:
    root = axis.root()
    if root.form == "whole":
        return 1
    counts = [_count_boxes(part) for part in root.parts]
    return sum(counts) if root.form == "sum" else prod(counts)


def _cut_product(root: Axis, points: Sequence[int], reason: str) -> None:
    outer, inner = root.parts[0], product_of(root.parts[1:])
    block = inner.size
    cut(outer, [edge for point in points for edge in (point // block, -(-point // block))], reason)
    cut(inner, [point % block for point in points], reason)


def take(axis: Axis, start: int, stop: int, reason: str) -> Axis:
    """The axis of the positions `start` to `stop` of `axis`, cut out of it."""
    root = axis.root()
    if (start, stop) == (0, root.size):
        return root
    cut(root, (start, stop), reason)
    if root.form == "whole" or (root.frozen and root.form == "product"):
        return Axis(stop - start, root.frozen)
    if root.form == "product":
        return _take_product(root, start, stop, reason)
    starts = root.starts()
    first, last = bisect_right(starts, start) - 1, bisect_left(starts, stop)
    bounds = (
        (part, max(start - offset, 0), min(stop - offset, part.size))
        for part, offset in zip(root.parts[first:last], starts[first:last], strict=True)
    )
    return sum_of([take(part, low, high, reason) for part, low, high in bounds])


def _take_product(root: Axis, start: int, stop: int, reason: str) -> Axis:
    outer, inner = root.parts[0], product_of(root.parts[1:])
    (first, head), (last, tail) = divmod(start, inner.size), divmod(stop, inner.size)
    if first == last:
        return take(inner, head, tail, reason)
    pieces = [take(inner, head, inner.size, reason)] if head else []
    first += head > 0
    if first < last:
        pieces.append(product_of([take(outer, first, last, reason), inner]))
    if tail:
        pieces.append(take(inner, 0, tail, reason))
    return sum_of(pieces)


def tie(a: Axis, b: Axis, reason: str) -> None:
    """Make `a` and `b` one index set with the common refinement of both structures.

    Block structures that do not nest (48 and 64 in 768) keep what both allow; the region between is frozen.
    """
    a, b = a.root(), b.root()
    if a is b:
        return
    if a.form == "whole" or (a.form == "sum" and b.form == "product"):
        a, b = b, a
    if a.form == "product" and b.form == "sum":
        split(b, [part.size for part in _chain(a)], reason)
        a, b = a.root(), b.root()
    if a.form == "sum" and b.form == "sum":
        _tie_sums(a, b, reason)
    elif a.form == "product" and b.form == "product":
        _tie_chains(_chain(a), _chain(b), reason)
    a, b = a.root(), b.root()
    if a is not b:
        _unite(a, b, reason)


def _unite(a: Axis, b: Axis, reason: str) -> None:
    if a.form == "whole":
        a, b = b, a
    frozen = a.frozen or b.frozen
    if a.form != "whole" and b.form not in ("whole", a.form):
        frozen = frozen or reason  # two structures with no common refinement
    b._parent = a
    a.cut_by = a.cut_by or b.cut_by
    if frozen:
        freeze(a, frozen)
        for part in b.parts:
            freeze(part, frozen)


def _tie_sums(a: Axis, b: Axis, reason: str) -> None:
    points = [0, a.size]
    for side in (a, b):
        offset = 0
        for part in side.parts:
            points.append(offset := offset + part.size)
    cut(a, points, reason)
    cut(b, points, reason)
    pieces_a, pieces_b = (dict(_segments(side, 0)) for side in (a, b))
    for place in pairwise(sorted(set(points))):
        tie(pieces_a.get(place) or take(a, *place, reason), pieces_b.get(place) or take(b, *place, reason), reason)


def _segments(axis: Axis, offset: int) -> Iterator[tuple[tuple[int, int], Axis]]:
    """(start, stop) and axis of the segments of a sum, those of sums inside it opened too."""
    for part in axis.root().parts:
        if part.root().form == "sum":
            yield from _segments(part, offset)
        yield (offset, offset := offset + part.size), part


def settle(axis: Axis) -> None:
    """Freeze a sum of which every segment is frozen, so that later cuts of it make no cells."""
    root = axis.root()
    if root.form == "sum" and not root.frozen and all(part.root().frozen for part in root.parts):
        root.frozen = root.parts[0].root().frozen


def _chain(axis: Axis) -> list[Axis]:
    """The parts of a product with the products inside it opened, outer to inner."""
    root = axis.root()
    if root.form != "product":
        return [root]
    return [link for part in root.parts for link in _chain(part)]


def _tie_chains(left: Sequence[Axis], right: Sequence[Axis], reason: str) -> None:
    """Tie two products of one size from the inside out, splitting the larger link by the smaller."""
    a, b = list(left), list(right)
    while a and b:
        inner_a, inner_b = a.pop(), b.pop()
        if inner_a.size == inner_b.size:
            tie(inner_a, inner_b, reason)
        elif inner_a.size % inner_b.size == 0:
            a += _peel(inner_a, inner_b, reason)
        elif inner_b.size % inner_a.size == 0:
            b += _peel(inner_b, inner_a, reason)
        else:
            _tie_misaligned(a, b, inner_a, inner_b, reason)


def _peel(large: Axis, small: Axis, reason: str) -> list[Axis]:
    rest, inner = split(large, [large.size // small.size, small.size], reason)
    tie(inner, small, reason)
    return _chain(rest)


def _tie_misaligned(a: list[Axis], b: list[Axis], inner_a: Axis, inner_b: Axis, reason: str) -> None:
    """Keep the common divisor inside, freeze links on both sides until their products agree again."""
    common = gcd(inner_a.size, inner_b.size)
    rest_a, keep_a = split(inner_a, [inner_a.size // common, common], reason)
    rest_b, keep_b = split(inner_b, [inner_b.size // common, common], reason)
    tie(keep_a, keep_b, reason)
    why = f"blocks of {inner_a.size} and of {inner_b.size} do not nest ({reason})"
    size_a, size_b = rest_a.size, rest_b.size
    freeze(rest_a, why)
    freeze(rest_b, why)
    while size_a != size_b:
        side, short = (a, size_a) if size_a < size_b else (b, size_b)
        need = max(size_a, size_b) // gcd(short, max(size_a, size_b))
        link = side.pop()
        if link.size > need and link.size % need == 0:
            rest, link = split(link, [link.size // need, need], reason)
            side += _chain(rest)
        freeze(link, why)
        if side is a:
            size_a *= link.size
        else:
            size_b *= link.size
