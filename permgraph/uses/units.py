"""The units of a group: every slice of every tensor that belongs to one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import Tensor

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Unit:
    """One unit of a group: a sequence of (tensor name, index expression), where `tensor[index]` is a view.

    Attributes:
        group: the name of the group.
        index: the indices of the groups that its group depends on, then the unit's place.
        slices: all that belongs to it, tensor by tensor, with a slice for every dimension. A tensor that has the unit
            on two axes has two entries, which overlap.

    """

    group: str
    index: tuple[int, ...]
    slices: tuple[tuple[str, Slices], ...]

    def __iter__(self) -> Iterator[tuple[str, Slices]]:
        return iter(self.slices)

    def __len__(self) -> int:
        return len(self.slices)

    def of(self, state_dict: Mapping[str, Tensor]) -> list[Tensor]:
        """The unit's part of a state dict, as views in the order of `slices`."""
        return [state_dict[name][index] for name, index in self.slices]


def named(spec: PermutationSpec, group: str | PermutationGroup) -> PermutationGroup:
    """The group of a name. Raises SpecMismatchError, listing the names, if there is none."""
    name = getattr(group, "name", group)
    found = next((one for one in spec.groups if one.name == name), None)
    if found is None:
        names = ", ".join(one.name for one in spec.groups)
        raise SpecMismatchError(f"no group has the name {name}; the groups are {names or 'none'}")
    return found


def units(spec: PermutationSpec, group: str | PermutationGroup) -> tuple[Unit, ...]:
    """For each unit of a group, all (tensor name, index expression) that belong to it; see `PermutationSpec.units`."""
    one = named(spec, group)
    return tuple(Unit(one.name, index, slices_of(spec, one, index)) for index in np.ndindex(*one.table_shape))


def slices_of(spec: PermutationSpec, group: PermutationGroup, index: Sequence[int]) -> tuple[tuple[str, Slices], ...]:
    """All that belongs to the unit at this place of a group's table."""
    acting = ((name, layout) for name, layout in spec.layouts.items() if group.name in layout.groups)
    return tuple(
        (name, found)
        for name, layout in acting
        for cell in layout.cells
        for move in cell.moves
        if move.group == group.name
        for found in _slices(cell, move, index, layout.shape)
    )


def _slices(cell: Cell, move: Move, index: Sequence[int], shape: Sequence[int]) -> Iterator[Slices]:
    """The part of a cell that belongs to a unit."""
    fixed: dict[int, int] = {}
    for leaves, coordinate in zip((*move.keys, move.leaves), index, strict=True):
        sizes = [cell.leaves[k].size for k in leaves]
        fixed.update(zip(leaves, map(int, np.unravel_index(coordinate, sizes) if sizes else ()), strict=True))
    yield from product(*(_along(cell, dim, fixed, size) for dim, size in enumerate(shape)))


def _along(cell: Cell, dim: int, fixed: Mapping[int, int], size: int) -> list[slice]:
    """The positions on a dimension where some leaves have fixed coordinates, as few slices as possible."""
    here = [(k, leaf) for k, leaf in enumerate(cell.leaves) if leaf.dim == dim]
    start = cell.offsets[dim] + sum(fixed[k] * leaf.stride for k, leaf in here if k in fixed)
    free = sorted(((leaf.stride, leaf.size) for k, leaf in here if k not in fixed and leaf.size > 1), reverse=True)
    runs: list[tuple[int, int]] = []
    for stride, count in free:
        if runs and runs[-1][0] == stride * count:
            runs[-1] = stride, runs[-1][1] * count
        else:
            runs.append((stride, count))
    step, length = runs.pop() if runs else (1, 1)
    starts = [start + sum(steps) for steps in product(*([k * s for k in range(n)] for s, n in runs))]
    if length == size:
        return [slice(None)]
    return [slice(first, first + step * (length - 1) + 1, step if step > 1 else None) for first in starts]
