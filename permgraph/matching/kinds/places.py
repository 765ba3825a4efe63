"""Where groups act on parameters, as blocks: rows that select, units that move, and everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

TOGETHER = " · "
"""Between the names of signs of which a product acts."""


@dataclass(frozen=True)
class Place:
    """One move of a group on a cell of a parameter."""

    name: str
    cell: Cell
    move: Move

    @property
    def _order(self) -> tuple[list[int], list[int], list[int]]:
        keys = [k for key in self.move.keys for k in key]
        rest = [k for k in range(len(self.cell.leaves)) if k not in (*keys, *self.move.leaves)]
        return keys, list(self.move.leaves), rest

    def units(self, value: Tensor) -> Tensor:
        """[rows, units, rest] of a parameter, rows over all that the group depends on."""
        return self.rows(self.cell.block(value))

    def rows(self, block: Tensor) -> Tensor:
        """The same of a block of its cell, with one dimension for each leaf."""
        keys, own, rest = self._order
        block = block.permute([*keys, *own, *rest])
        sizes = [prod(self.cell.leaves[k].size for k in leaves) for leaves in (keys, own)]
        return block.reshape(*sizes, -1)


def further_signs(groups: Iterable[PermutationGroup]) -> frozenset[str]:
    """The groups of size 1 that give units one more sign, in addition to that of the group that moves them."""
    return frozenset(group.name for group in groups if group.size == 1 and Kind(group.kind).has_signs)


def signs_inside(groups: Sequence[PermutationGroup]) -> frozenset[str]:
    """Those of `further_signs` that are found with the order of units that they depend on, not after it.

    They are those of pinned units inside units that move, and others that depend on the same moving units.
    """
    moving, signs = {group.name for group in groups if group.size > 1}, further_signs(groups)
    mine = [(group.name, group.depends_on) for group in groups if group.name in signs]
    outer = {key for _, keys in mine if keys and keys[-1] not in moving for key in keys} & moving
    return frozenset(name for name, keys in mine if not outer.isdisjoint(keys))


def further_sign(cell: Cell, move: Move, signs: Set[str]) -> str:
    """Those of `signs`, as `further_signs` has them, that reach the units of a move in a cell; "" for none.

    Places whose units have the same product of signs have the same name here.
    """
    here = {m.group for m in cell.moves if not m.leaves and m.power % 2 and m.keys[-1] == move.leaves}
    return TOGETHER.join(sorted(here & signs))


def places(spec: PermutationSpec, names: Sequence[str]) -> dict[str, list[Place]]:
    """Group -> where it acts on parameters; tied weights count once."""
    found: dict[str, list[Place]] = {name: [] for name in names}
    for place in _all(spec):
        if place.move.group in found:
            found[place.move.group].append(place)
    return found


def _all(spec: PermutationSpec) -> Iterator[Place]:
    for name in spec.parameters:
        if name in spec.layouts and name not in spec.ties.aliases:
            for cell in spec.layouts[name].cells:
                for move in cell.moves:
                    yield Place(name, cell, move)


def wide(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights in float64."""
    return {
        name: tensor.detach().to(torch.float64) if tensor.is_floating_point() else tensor.detach()
        for name, tensor in state.items()
    }
