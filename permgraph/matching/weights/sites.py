"""Where families of nested groups act on the parameters: cells as tensors whose axes are units, and everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from math import prod

import numpy as np
from torch import Tensor

from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

Family = tuple[PermutationGroup, ...]
Axes = tuple[str, ...]
"""Groups and pinned factors that index the units of an action, outer to inner; all of one family."""


@dataclass(frozen=True)
class Action:
    """A family acting once on a cell: what indexes its units, and the leaves of each of those axes."""

    axes: Axes
    units: tuple[tuple[int, ...], ...]

    @property
    def leaves(self) -> tuple[int, ...]:
        """The leaves of all axes, in order."""
        return tuple(chain(*self.units))


@dataclass(frozen=True)
class Site:
    """One cell of a parameter and all that acts on it.

    `rows`: the range of the first dimension that it is in, from which its cell counts; None for the whole tensor.
    As a tensor a site has one axis an atom, then one for all leaves that nothing moves. An atom is the flattened units
    of an action; where two actions share leaves (a grouped convolution: both channel axes are parts of the group axis),
    every leaf is an atom.
    """

    name: str
    cell: Cell
    actions: tuple[Action, ...]
    rows: tuple[int, int] | None = None

    def cut(self, most: int) -> list[Site]:
        """The same in sites of at most `most` elements, where the first dimension is one that nothing moves."""
        first = [k for k, leaf in enumerate(self.cell.leaves) if leaf.dim == 0]
        moved = {k for move in self.cell.moves for leaves in (move.leaves, *move.keys) for k in leaves}
        if self.cell.size <= most or len(first) != 1 or first[0] in moved or self.cell.leaves[first[0]].stride != 1:
            return [self]
        whole = self.cell.leaves[first[0]]
        start, step = self.cell.offsets[0], max(1, most * whole.size // self.cell.size)
        found = []
        for row in range(0, whole.size, step):
            size = min(step, whole.size - row)
            leaves = tuple(replace(leaf, size=size) if leaf is whole else leaf for leaf in self.cell.leaves)
            cell = replace(self.cell, offsets=(0, *self.cell.offsets[1:]), leaves=leaves)
            found.append(replace(self, cell=cell, rows=(start + row, start + row + size)))
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """The groups and pinned factors of all actions."""
        return frozenset(name for action in self.actions for name in action.axes)

    @cached_property
    def atoms(self) -> tuple[tuple[int, ...], ...]:
        """The leaves of each atom."""
        leaves = [leaf for action in self.actions for leaf in action.leaves]
        if len(set(leaves)) == len(leaves):
            return tuple(action.leaves for action in self.actions)
        return tuple((leaf,) for leaf in dict.fromkeys(leaves))

    @cached_property
    def spans(self) -> tuple[tuple[int, ...], ...]:
        """For each action, the atoms that its units run over, in order."""
        if len(self.atoms) == len(self.actions):
            return tuple((k,) for k in range(len(self.actions)))
        return tuple(tuple(self.atoms.index((leaf,)) for leaf in action.leaves) for action in self.actions)

    def sizes(self, action: Action) -> tuple[int, ...]:
        """The number of units on each axis of an action."""
        return tuple(prod(self.cell.leaves[k].size for k in leaves) for leaves in action.units)

    def tensor(self, value: Tensor) -> Tensor:
        """[atoms..., rest]: the cell of a parameter, a view where the leaves of each atom are adjacent."""
        value = self.cell.block(value)
        mine = list(chain(*self.atoms))
        order = [*mine, *(k for k in range(len(self.cell.leaves)) if k not in mine)]
        shape = [prod(self.cell.leaves[k].size for k in atom) for atom in self.atoms]
        return value.permute(order).reshape(*shape, -1)


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


def units_of(family: Family) -> int:
    """The units of its largest group, at all indices of those that it depends on."""
    return max((group.size * group.count for group in family), default=0)


def sites(spec: PermutationSpec, groups: Sequence[PermutationGroup]) -> list[Site]:
    """All cells of parameters on which some of `groups` act; tied weights count once."""
    label = {group.name: k for k, family in enumerate(families(groups)) for group in family}
    depends = {group.name: group.depends_on for group in groups}
    found = []
    for name in spec.parameters:
        if name in spec.layouts and name not in spec.ties.aliases:
            for cell in spec.layouts[name].cells:
                if actions := tuple(_actions(cell, label, depends)):
                    found.append(Site(name, cell, actions))
    return found


def _actions(cell: Cell, label: Mapping[str, int], depends: Mapping[str, Axes]) -> Iterator[Action]:
    """The moves on a cell in sets of one family that have each group once, keys and groups on the same leaves."""
    sets: list[dict[str, Move]] = []
    for move in sorted((m for m in cell.moves if m.group in label), key=lambda m: len(m.keys)):
        keys = dict(zip(depends[move.group], move.keys, strict=True))
        for chosen in sets:
            is_family = label[next(iter(chosen))] == label[move.group]
            agrees = all(chosen[key].leaves == leaves for key, leaves in keys.items() if key in chosen)
            if is_family and move.group not in chosen and agrees:
                chosen[move.group] = move
                break
        else:
            sets.append({move.group: move})
    for chosen in sets:
        axes: dict[str, tuple[int, ...]] = {}
        for move in chosen.values():
            axes |= dict(zip(depends[move.group], move.keys, strict=True)) | {move.group: move.leaves}
        ordered = dict(sorted(axes.items(), key=lambda item: len(depends.get(item[0], ()))))
        yield Action(tuple(ordered), tuple(ordered.values()))


def unit_sources(axes: Axes, sizes: Sequence[int], depends: Mapping[str, Axes], tables: Mapping[str, Index]) -> Index:
    """Flat index [units]: the unit of B that `tables` put at each unit of `axes`; pinned factors stay."""
    here = dict(zip(axes, np.indices(sizes, sparse=True), strict=True))
    moved = [
        tables[name][(*(here[key] for key in depends[name]), here[name])] if name in tables else here[name]
        for name in axes
    ]
    flat: Index = np.ravel_multi_index(np.broadcast_arrays(*moved), tuple(sizes)).ravel()
    return flat
