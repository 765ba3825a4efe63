"""An axis at positions that are known: constants of the program, or numbers of units."""

from collections.abc import Sequence
from math import prod

import numpy as np

from permgraph.algebra.laws import LINEAR, SAME
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, letters
from permgraph.rules.segments import join, slice_of

NUMBERED = "numbered"
"""The role that an operation gives to an axis whose units it selects by number."""
MAX_RUNS = 64  # constant positions in more runs than this pin the axis


def at_constants(call: Call, x: Value, dim: int, positions: Value) -> bool:
    """Constant positions: a transposed grid of the axis, or a few runs joined. Returns False for any others."""
    if positions.data is None or positions.data.dim() != 1 or positions.boolean:
        return False
    size, runs = x.shape[dim], list[list[int]]()
    places = [position % size for position in positions.data.tolist()]
    if grid := _grid(places, size):
        _regrouped(call, x, dim % len(x.shape), *grid)
        return True
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1][1] += 1
        else:
            runs.append([place, place + 1])
    if not 0 < len(runs) <= MAX_RUNS:
        return False
    join(call, call.out, dim, [slice_of(call, x, dim, start, stop - start) for start, stop in runs])
    return True


def _grid(places: list[int], size: int) -> tuple[list[int], list[int]] | None:
    """Sizes g and an order p such that places = arange(size).reshape(g).permute(p).flatten(); None for any others."""
    radices, strides, left = list[int](), list[int](), places
    while len(left) > 1:
        step, count = left[1] - left[0], 1
        while count < len(left) and left[count] - left[count - 1] == step:
            count += 1
        while len(left) % count:  # a run that goes on by chance
            count -= 1
        radices, strides, left = [count, *radices], [step, *strides], left[::count]
        if count == 1:
            return None
    outer = sorted(range(len(strides)), key=lambda k: -strides[k])
    sizes = [radices[k] for k in outer]
    order = [outer.index(k) for k in range(len(outer))]
    found = np.arange(size).reshape(sizes).transpose(order).ravel() if prod(sizes) == size else np.array([])
    return (sizes, order) if len(sizes) > 1 and found.tolist() == places else None


def _regrouped(call: Call, x: Value, dim: int, sizes: Sequence[int], order: Sequence[int]) -> None:
    """An axis as a grid whose dimensions change their order."""
    old, new, inner = letters(len(x.shape)), letters(len(x.shape)), letters(len(sizes), "g")
    old[dim], new[dim] = f"({' '.join(inner)})", f"({' '.join(inner[k] for k in order)})"
    given = dict(zip(inner, sizes, strict=True))
    call.relate(f"{' '.join(old)} -> {' '.join(new)}", x, call.out, sizes=given, law=SAME)


def at_numbers(call: Call, x: Value, dim: int, positions: Value) -> bool:
    """Rows of an axis by unit numbers: Σ over units of the one-hot tensor times `x`. False for other positions."""
    picks = numbers_along(call, positions, x, dim)
    if picks is None:
        return False
    names, new = letters(len(x.shape)), letters(len(positions.shape), "u")
    unit, before, after = names[dim], names[: dim % len(names)], names[dim % len(names) + 1 :]
    written = ", ".join([" ".join(names), " ".join(new), " ".join([*new, unit])])
    laws = dict.fromkeys([*before, *after], LINEAR)
    call.relate(f"{written} -> {' '.join([*before, *new, *after])}", x, positions, picks, call.out, law=laws)
    call.relations[-1].roles[unit] = NUMBERED
    return True


def numbers_along(call: Call, positions: Value, x: Value, dim: int) -> Value | None:
    """The one-hot tensor of the positions along an axis of `x`, if they are numbers of that many units."""
    if positions.picks is None or not x.shape or positions.picks.shape[-1] != x.shape[dim]:
        return None
    return call.picks_of(positions)
