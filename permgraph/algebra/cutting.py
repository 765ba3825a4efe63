"""Axes as sums: cuts an axis into segments, and takes segments out of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod

from permgraph.algebra.axes import Axis, freeze, product_of, sum_of

MAX_SEGMENTS = 4096  # a finer cut than this is refused, and the axis pinned


def cut(axis: Axis, points: Iterable[int], reason: str) -> None:
    """Cut `axis` into segments at `points`; a part that cannot be cut there is frozen."""
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
