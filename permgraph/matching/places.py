"""Places of weights at which a family of nested groups acts, as matrices over units and everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod

import torch
from torch import Tensor

from permgraph.layout import Cell, Layout, Move
from permgraph.permutations import PermutationGroup
from permgraph.spec import PermutationSpec

Family = tuple[PermutationGroup, ...]


@dataclass(frozen=True)
class Place:
    """One cell of a parameter on which a family acts once: its axes, and the leaves they index.

    Where a family acts twice on a tensor (a square weight of the residual stream) there are two places; in each, the
    moves of the other are part of `others`.
    """

    name: str
    cell: Cell
    groups: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    others: Layout

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of units on each axis."""
        return tuple(prod(self.cell.leaves[k].size for k in leaves) for leaves in self.units)

    def matrix(self, tensor: Tensor) -> Tensor:
        """[units, rest]: the cell with the units of this place first."""
        for dim in range(tensor.dim()):
            index = torch.from_numpy(self.cell.positions(dim, self.cell.own_coordinates(dim)).ravel())
            if not torch.equal(index, torch.arange(tensor.shape[dim])):
                tensor = tensor.index_select(dim, index.to(tensor.device))
        tensor = tensor.reshape([leaf.size for leaf in self.cell.leaves])
        mine = list(chain(*self.units))
        order = [*mine, *(k for k in range(len(self.cell.leaves)) if k not in mine)]
        return tensor.permute(order).reshape(prod(self.sizes), -1)


def families(groups: Sequence[PermutationGroup]) -> list[Family]:
    """Groups joined with all that they depend on, directly or through others; in order."""
    label = {group.name: group.name for group in groups}
    for group in groups:
        for lower in group.depends_on:
            if lower in label:
                old, new = label[group.name], label[lower]
                label = {name: new if mark == old else mark for name, mark in label.items()}
    found: dict[str, list[PermutationGroup]] = {}
    for group in groups:
        found.setdefault(label[group.name], []).append(group)
    return [tuple(members) for members in found.values()]


def places(spec: PermutationSpec, family: Family) -> list[Place]:
    """All places of the parameters at which `family` acts; tied weights count once."""
    mine = {group.name: group for group in family}
    names = dict.fromkeys(name for group in family for name, _ in group.axes if name in spec.parameters)
    unique = [name for name in names if name not in spec.ties.aliases]
    return [place for name in unique for place in _places(name, spec.layouts[name], mine)]


def _places(name: str, layout: Layout, mine: Mapping[str, PermutationGroup]) -> Iterator[Place]:
    for cell in layout.cells:
        for moves in _once(cell, mine):
            axes: dict[str, tuple[int, ...]] = {}
            for move in moves:
                axes |= dict(zip(mine[move.group].depends_on, move.keys, strict=True)) | {move.group: move.leaves}
            rest = replace(cell, moves=tuple(m for m in cell.moves if m not in moves))
            cells = tuple(rest if other is cell else replace(other, moves=()) for other in layout.cells)
            yield Place(name, cell, tuple(axes), tuple(axes.values()), Layout(layout.shape, cells))


def _once(cell: Cell, mine: Mapping[str, PermutationGroup]) -> list[list[Move]]:
    """The family's moves on a cell in sets that have each group once, keys and groups on the same leaves."""
    sets: list[dict[str, Move]] = []
    for move in sorted((m for m in cell.moves if m.group in mine), key=lambda m: len(m.keys)):
        keys = dict(zip(mine[move.group].depends_on, move.keys, strict=True))
        for chosen in sets:
            agrees = all(chosen[key].leaves == leaves for key, leaves in keys.items() if key in chosen)
            if move.group not in chosen and agrees:
                chosen[move.group] = move
                break
        else:
            sets.append({move.group: move})
    return [list(chosen.values()) for chosen in sets]
