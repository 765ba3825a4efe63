"""Removes units: the state dict of a smaller model of the same architecture."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.units import Unit, named

Marks = npt.NDArray[np.bool_]
Removal = Collection[int] | Collection[Unit] | Index | Tensor


def remove(
    spec: PermutationSpec,
    state_dict: Mapping[str, Tensor],
    group: str | PermutationGroup | Mapping[str, Removal],
    units: Removal | None = None,
) -> dict[str, Tensor]:
    """The state dict without some units; see `PermutationSpec.remove`.

    The units to remove are first moved to the end of every row, so that every tensor is cut at one position of each
    axis.
    """
    given = group if isinstance(group, Mapping) else {named(spec, group).name: () if units is None else units}
    stay = kept_sizes(spec, given)
    order = spec.identity()
    for one in sorted(spec.groups, key=lambda g: -len(g.depends_on)):  # inner units before the rows that they are in
        if one.name in given:
            last = np.argsort(_marked(one, given[one.name]), axis=-1, kind="stable")
            order = spec.compose({one.name: parts.with_index(one.kind, last)}, order)
    ordered = spec.apply(order, state_dict)
    done: dict[int, Tensor] = {}
    for name, tensor in ordered.items():
        layout = spec.layouts.get(name)
        if layout is not None and stay.keys() & set(layout.groups) and id(tensor) not in done:
            done[id(tensor)] = _cut(name, layout, stay, tensor)
    return {name: done.get(id(tensor), tensor) for name, tensor in ordered.items()}


def kept_sizes(spec: PermutationSpec, removed: Mapping[str, Removal]) -> dict[str, int]:
    """Group -> how many units remain. Raises SpecMismatchError if that is none, or differs from row to row."""
    found = {}
    for name, units in removed.items():
        group = named(spec, name)
        counts = _marked(group, units).sum(-1)
        if counts.min() != counts.max():
            raise SpecMismatchError(
                f"{name}: {counts.min()} units are removed in one row and {counts.max()} in another: "
                f"remove as many for every index of {', '.join(group.depends_on)}"
            )
        found[name] = group.size - int(counts.max())
        if found[name] < 1:
            raise SpecMismatchError(f"{name}: all {group.size} units are removed; leave at least one")
    return found


def _marked(group: PermutationGroup, units: Any) -> Marks:
    """True at the units to remove, in the shape of the group's table."""
    marks = np.zeros(group.table_shape, dtype=bool)
    given = [] if isinstance(units, np.ndarray | Tensor) else list(units)
    if given and all(isinstance(unit, Unit) for unit in given):
        if strangers := [unit for unit in given if unit.group != group.name]:
            raise SpecMismatchError(f"{group.name}: these are units of {strangers[0].group}; take spec.units of it")
        marks[tuple(np.transpose([unit.index for unit in given]))] = True
    else:
        _mark(group, marks, np.asarray(given or units))
    return marks


def _mark(group: PermutationGroup, marks: Marks, given: Index) -> None:
    """Mark units that are given by number: the same in every row, or a row of numbers for each."""
    if not given.size:
        return
    shape = (*group.depends_sizes, given.shape[-1] if given.ndim else 1)
    bad = given.dtype.kind not in "iu" or given.ndim not in (1, len(shape)) or given.min() < 0
    if bad or given.max() >= group.size or (given.ndim > 1 and given.shape != shape):
        raise SpecMismatchError(
            f"{group.name}: units to remove are numbers from 0 to {group.size - 1}, the same in every row or a table "
            f"with a row for every index of {', '.join(group.depends_on) or 'nothing'}, or units of spec.units"
        )
    np.put_along_axis(marks, np.broadcast_to(given, shape), True, axis=-1)


def _cut(name: str, layout: Layout, stay: Mapping[str, int], tensor: Tensor) -> Tensor:
    """A tensor without the units of each group numbered `stay` and up."""
    for dim, kept in enumerate(_straight(name, layout, stay)):
        if len(kept) < layout.shape[dim]:
            tensor = tensor.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    return tensor


def _straight(name: str, layout: Layout, stay: Mapping[str, int]) -> list[npt.NDArray[np.intp]]:
    """The positions that remain on each dimension. Raises SpecMismatchError if the rest of a tensor is not a tensor."""
    found = []
    for dim, size in enumerate(layout.shape):
        gone = np.zeros(size, dtype=bool)
        for group, count in stay.items():
            here, kept = _sides(layout, group, dim, count)
            if np.any(here & kept):
                raise SpecMismatchError(
                    f"{group}: without these units {name} would have holes, since they take up other places in one "
                    f"part of its dim {dim} than in another; set the slices of spec.units to 0 instead"
                )
            gone |= here
        found.append(np.flatnonzero(~gone))
    return found


def elements_lost(spec: PermutationSpec, group: str) -> int:
    """How many elements are removed with one unit of every row, tied tensors counted once.

    Raises SpecMismatchError as `remove` does, for example for the only unit of a row.
    """
    stay = kept_sizes(spec, {group: [0]})
    acting = {n: layout for n, layout in spec.layouts.items() if group in layout.groups and n not in spec.ties.aliases}
    kept = (prod(map(len, _straight(name, layout, stay))) for name, layout in acting.items())
    return sum(prod(layout.shape) for layout in acting.values()) - sum(kept)


def kept_positions(name: str, spec: PermutationSpec, stay: Mapping[str, int]) -> list[npt.NDArray[np.intp]]:
    """For each dimension of a tensor, the positions that it keeps when each group has `stay` units left."""
    layout = spec.layouts.get(name)
    found = []
    for dim, size in enumerate(spec.shapes[name]):
        gone = np.zeros(size, dtype=bool)
        for group, count in stay.items():
            gone |= _sides(layout, group, dim, count)[0] if layout is not None else gone
        found.append(np.flatnonzero(~gone))
    return found


def _sides(layout: Layout, group: str, dim: int, stay: int) -> tuple[Marks, Marks]:
    """The positions on a dimension that some cell loses, and those that some cell keeps."""
    gone, kept = (np.zeros(layout.shape[dim], dtype=bool) for _ in range(2))
    for cell in layout.cells:
        here, there = (np.zeros(layout.shape[dim], dtype=bool) for _ in range(2))
        for move in cell.moves:
            if move.group == group:
                here |= _beyond(cell, move, dim, stay, layout.shape[dim])
        there[cell.positions(dim, cell.own_coordinates(dim)).ravel()] = True
        gone |= here
        kept |= there & ~here
    return gone, kept


def _beyond(cell: Cell, move: Move, dim: int, stay: int, size: int) -> Marks:
    """The positions on a dimension whose units are numbered `stay` and up."""
    found = np.zeros(size, dtype=bool)
    here = cell.own_coordinates(dim)
    positions = cell.positions(dim, here)
    unit = np.zeros([1] * len(cell.leaves), dtype=np.int64)
    for k in move.leaves:
        unit = unit * cell.leaves[k].size + here[k]
    if any(cell.leaves[k].dim == dim for k in move.leaves):
        found[positions[np.broadcast_to(unit >= stay, positions.shape)]] = True
    return found
