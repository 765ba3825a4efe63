"""Colours of units, numbers that do not depend on any order and by which units are sorted; and signs of units.

Colour refinement with real numbers. The colour of a unit is a sum over its weights, their squares and themselves, each
times the colours of the other units that the weight belongs to; after a few rounds it depends on all of the network.
Signs are fixed from where the others are known: that of a unit is the sign of such a sum of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.canonical.blocks import cells, fixed, numbers, real

ROUNDS = 1000
LEAST = 3
EQUAL = 1e-11
"""Colours closer than this are equal."""
SPREAD = 1e-3
"""Differences of this share of the largest value are resolved; smaller ones, such as rounding errors, are damped."""
NONE = 1e-9
"""A sum that is smaller than this share of the sum of absolute values has no sign."""

Chosen = dict[str, Numbers]
"""Group -> -1 where a sign was chosen together with others, 1 elsewhere."""


@dataclass
class Colours:
    """Colours and signs of all units of a state of smallest norm, in its frames.

    Attributes:
        equal: colours closer than this are equal.
        colour: group -> its table of positive numbers.
        sign: group with signs -> its table of 1, -1, and 0 where it is not known.
        chosen: signs that had to be chosen, one mapping for each set of signs that follow from one choice.

    """

    spec: PermutationSpec
    state: Mapping[str, Tensor]
    equal: float = EQUAL
    colour: dict[str, Numbers] = field(default_factory=dict)
    sign: dict[str, Numbers] = field(default_factory=dict)
    chosen: list[Chosen] = field(default_factory=list)

    def __post_init__(self) -> None:
        for group in self.spec.groups:
            self.colour[group.name] = np.ones(group.table_shape)
            if Kind(group.kind).mixes:
                self.colour[group.name] = np.broadcast_to(numbers(group.kind, group.size), group.table_shape)
            if Kind(group.kind).has_signs or group.kind == "centred":
                self.sign[group.name] = np.zeros(group.table_shape)
            if group.kind == "centred":
                self.sign[group.name][..., -1] = 1
        self._refine(LEAST)
        while (first := self._unsigned()) is not None:
            self._choose(*first)

    def _refine(self, least: int = 1) -> None:
        """Repeat rounds until no further units are distinguished."""
        known = -1
        for done in range(ROUNDS):
            now = self._known()
            if done >= least and now == known:
                return
            known = now
            self._round()

    def _known(self) -> int:
        """How many signs are known and colours are distinct."""
        gaps = [np.diff(np.sort(table, axis=-1), axis=-1) for table in self.colour.values()]
        signs = sum(int((table != 0).sum()) for table in self.sign.values())
        return signs + sum(int((gap >= self.equal).sum()) for gap in gaps)

    def _unsigned(self) -> tuple[str, tuple[int, ...]] | None:
        """The unit without a sign that has the smallest colour, in the first group that has one."""
        for name, table in self.sign.items():
            unknown = np.argwhere(table == 0)
            if len(unknown):
                return name, min(map(tuple, unknown), key=lambda at: float(self.colour[name][at]))
        return None

    def _choose(self, group: str, at: tuple[int, ...]) -> None:
        """Choose the sign of a unit, and with it those that follow from it."""
        before = {name: table != 0 for name, table in self.sign.items()}
        self.sign[group][at] = 1
        self._refine()
        new = {name: np.where((table != 0) & ~before[name], -1.0, 1.0) for name, table in self.sign.items()}
        self.chosen.append({name: flip for name, flip in new.items() if (flip < 0).any()})

    def _round(self) -> None:
        """Compute new signs and colours from the present ones."""
        sums = {group.name: Sums(group) for group in self.spec.groups}
        for cell, block, weights in self._cells:
            for k, move in enumerate(cell.moves):
                sums[move.group].add(self, cell, k, block, weights)
        for group in self.spec.groups:
            here = sums[group.name]
            if group.name in self.sign:
                found = np.where(np.abs(here.odd) > NONE * here.size, np.sign(here.odd), here.size == 0)
                self.sign[group.name] = np.where(self.sign[group.name] == 0, found, self.sign[group.name])
            if not Kind(group.kind).mixes:
                self.colour[group.name] = here.colour(self.colour[group.name])

    @cached_property
    def _cells(self) -> list[tuple[Cell, Tensor, Tensor]]:
        return list(self._blocks())

    def _blocks(self) -> Iterator[tuple[Cell, Tensor, Tensor]]:
        """Each cell with its values, and numbers for the places that nothing moves."""
        for number, (name, cell) in enumerate(cells(self.spec, self.state)):
            for k, part in enumerate(real(self.state[name])):
                yield cell, cell.block(part).cpu(), fixed(f"{name}:{number}:{k}", cell)

    def at(self, cell: Cell, move: Move, tables: Mapping[str, Numbers]) -> Tensor:
        """A table at the units of a move, shaped to broadcast over a block."""
        here = cell.coordinates()
        rows = tuple(cell.ravel(here, key) for key in (*move.keys, move.leaves))
        return torch.from_numpy(np.ascontiguousarray(tables[move.group][rows]))

    def has_sign(self, move: Move) -> bool:
        """Whether a sign of its group changes what a move acts on."""
        return move.group in self.sign and move.power % 2 == 1

    def is_unsure(self, group: PermutationGroup) -> bool:
        """Whether two units of one row have the same colour."""
        table = np.sort(self.colour[group.name], axis=-1)
        return group.size > 1 and bool(np.any(np.diff(table, axis=-1) < self.equal))


class Sums:
    """Sums for the units of a group: of terms that a sign does not change, of terms that it does, and their sizes."""

    def __init__(self, group: PermutationGroup) -> None:
        self.even, self.odd, self.size = (np.zeros(group.table_shape) for _ in range(3))

    def add(self, colours: Colours, cell: Cell, number: int, block: Tensor, weights: Tensor) -> None:
        """Add the elements of a cell to the sums of the units of one of its moves."""
        move, weights = cell.moves[number], weights * (1 + number)  # a unit counts differently as a row and as a column
        signs = weights
        for k, other in enumerate(cell.moves):
            if k != number:
                here = colours.at(cell, other, colours.colour)
                weights, signs = weights * here, signs * here
                signs = signs * colours.at(cell, other, colours.sign) if colours.has_sign(other) else signs
        self.even += self._over(cell, move, block.square() * weights)
        if colours.has_sign(move):
            self.odd += self._over(cell, move, block * signs)
            self.size += self._over(cell, move, block.abs() * weights)
        else:
            self.even += self._over(cell, move, block * signs)

    def _over(self, cell: Cell, move: Move, block: Tensor) -> Any:
        """Sums over all leaves that are not of the move, in the shape of the group's table."""
        kept = [k for leaves in (*move.keys, move.leaves) for k in leaves]
        rest = [k for k in range(len(cell.leaves)) if k not in kept]
        total = block.expand([leaf.size for leaf in cell.leaves])
        total = total.sum(rest) if rest else total
        left = sorted(kept)
        return total.permute([left.index(k) for k in kept]).reshape(self.even.shape).numpy()

    def colour(self, old: Numbers) -> Numbers:
        """Between 0.3 and 1.7, smooth in the sums and the colour before, and 1 for all units where these are equal."""
        found: Any = 1 + 0.2 * (old - 1)
        for values in (self.even, np.abs(self.odd)):
            scale = max(values.std(), SPREAD * np.abs(values).max(initial=0))
            if scale:
                x = (values - values.mean()) / scale
                found = found + 0.25 * x / (1 + np.abs(x))
        return np.broadcast_to(found, self.even.shape).astype(np.float64)
