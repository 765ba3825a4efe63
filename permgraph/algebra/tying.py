"""Splits axes into products, and ties two axes: both get the common refinement of their structures.

The two go together: to tie two structures is to split the coarser one, and to split a product is to tie its factors
to the new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import gcd, prod

from permgraph.algebra.axes import Axis, chain, freeze, segments_of, sum_of
from permgraph.algebra.cutting import MAX_SEGMENTS, cut, take


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
        _tie_chains(chain(root), fresh, reason)
    pieces = iter(fresh)
    return [next(pieces) if size != 1 else Axis(1) for size in sizes]


def _blocks_of_sum(root: Axis, sizes: Sequence[int], fresh: Sequence[Axis], reason: str) -> bool:
    """Rewrite a sum as (sum of outer segments) × block; all blocks get the same geometry, but may move differently."""
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
            inner, first = chain(part)[-1].size, -offset % block
            whole, divided = first % inner == 0 == block % inner, first == 0 == inner % block
            if first < part.size and not (whole or divided):
                return False
        offset += part.size
    return True


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
        split(b, [part.size for part in chain(a)], reason)
        a, b = a.root(), b.root()
    if a.form == "sum" and b.form == "sum":
        _tie_sums(a, b, reason)
    elif a.form == "product" and b.form == "product":
        _tie_chains(chain(a), chain(b), reason)
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
    pieces_a, pieces_b = (dict(segments_of(side, 0)) for side in (a, b))
    for place in pairwise(sorted(set(points))):
        tie(pieces_a.get(place) or take(a, *place, reason), pieces_b.get(place) or take(b, *place, reason), reason)


def _tie_chains(left: Sequence[Axis], right: Sequence[Axis], reason: str) -> None:
    """Tie two products of the same size from the inside out, splitting the larger factor by the smaller."""
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
    return chain(rest)


def _tie_misaligned(a: list[Axis], b: list[Axis], inner_a: Axis, inner_b: Axis, reason: str) -> None:
    """Keep the common divisor inside, and freeze factors on both sides until their products agree again."""
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
            side += chain(rest)
        freeze(link, why)
        if side is a:
            size_a *= link.size
        else:
            size_b *= link.size
