"""The shifts of a specification: additive freedom of parameters, listed and counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from permgraph.algebra.cells import Occurrence, TensorLayout
from permgraph.algebra.reading import Place, blocks, written
from permgraph.algebra.shifts import Options

MOST_AXES = 12  # of one cell


@dataclass(frozen=True)
class Shift:
    """What may be added to a tensor without a change of the function, though no group of units does it.

    Attributes:
        tensor: the state-dict key.
        part: the part of it that is meant, as an index such as `0:8`; "" for all of it.
        dimension: how many numbers may be chosen freely.
        along: the dimensions of the tensor along which the shift is constant; after a norm with a weight, constant
            divided by that weight.
        reasons: the operations that ignore it, or the biases that compensate for it.

    """

    tensor: str
    part: str
    dimension: int
    along: tuple[int, ...]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        along = f", constant along {', '.join(map(str, self.along))}" if self.along else ""
        more = f" (and {len(self.reasons) - 1} more)" if len(self.reasons) > 1 else ""
        part = f"[{self.part}]" if self.part else ""
        return f"{self.tensor}{part}: {self.dimension} numbers{along}: {self.reasons[0]}{more}"


def shifts(
    options: Mapping[Place, Options], layouts: Mapping[str, TensorLayout], aliases: Mapping[str, Sequence[str]]
) -> Iterator[Shift]:
    """The shifts of each tensor, in the order of the tensors; `aliases` lists the state-dict keys of each."""
    by_tensor: dict[str, list[Place]] = {}
    for place in sorted(options):
        by_tensor.setdefault(place[0], []).append(place)
    for name, keys in aliases.items():
        alike: dict[tuple[tuple[int, ...], tuple[str, ...]], list[Place]] = {}
        for place in by_tensor.get(name, ()):
            along = tuple(sorted({o.dim for option in options[place] for o in option}))
            reasons = tuple(dict.fromkeys(why for whys in options[place].values() for why in whys))
            alike.setdefault((along, reasons), []).append(place)
        for (along, reasons), places in alike.items():
            dimension = sum(_dimension(layouts[name], cell, options[name, cell]) for _, cell in places)
            if dimension:
                yield Shift(keys[0], _part(layouts[name], places), dimension, along, reasons)


def _part(layout: TensorLayout, places: Sequence[Place]) -> str:
    if len(places) == len(list(layout.cells())):
        return ""
    found = blocks(layout, [cell for _, cell in places])
    part = " and ".join(written(layout.value.shape, block) for block in found)
    return "" if set(part) <= set(":, ") else part


def _dimension(layout: TensorLayout, cell: tuple[int, ...], options: Options) -> int:
    """The dimension of the sum of the spaces of tensors that are constant along one of the options.

    An axis of n units has one constant direction and n - 1 others. A product of directions, one for each axis, is in
    the sum if some option has only axes on which the product is constant.
    """
    axes = [o for o, _ in layout.occurrences(cell) if layout.size(o) > 1]
    if len(axes) > MOST_AXES:
        return 0
    return sum(
        prod(layout.size(o) - 1 for o in varying)
        for count in range(len(axes) + 1)
        for varying in map(frozenset[Occurrence], combinations(axes, count))
        if any(varying.isdisjoint(option) for option in options)
    )
