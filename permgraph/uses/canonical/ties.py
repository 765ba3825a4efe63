"""Ties in a canonical form: units that nothing distinguishes, and whether exchanging them changes the form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.parts import Index, Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.canonical.colours import Colours

MOST = 200
"""At most this many sets of equal units of a group are tried; with more, the form does not count as unique."""
UNCHANGED = 1e-9
"""Of the largest value of a tensor."""

Row = tuple[int, ...]


@dataclass
class Ties:
    """Ties of a form by group, and whether the form is unique in spite of them."""

    spec: PermutationSpec
    rounding: float
    equal: float
    found: dict[str, str] = field(default_factory=dict)
    unique: bool = True

    def open(self, group: str, why: str) -> None:
        """Note a tie that could have led to another form."""
        self.found[group] = why
        self.unique = False

    def add_signs(self, colours: Colours) -> None:
        """Note signs that were chosen, if the opposite choice gives another state."""
        for flips in colours.chosen:
            element = {name: _flip(self.spec[name], flip) for name, flip in flips.items()}
            if not self._is_unchanged(element, colours.state):
                for name in flips:
                    self.open(name, "nothing fixes the signs of some units: they are those of the given weights")

    def add_units(self, group: PermutationGroup, colour: Numbers, state: Mapping[str, Tensor]) -> None:
        """Note units of equal colour, given the colours of the units of `state` in the order of `state`."""
        runs = list(_runs(colour, self.equal))
        tried = runs[:MOST]
        free = all(self._may_exchange(group, row, start, stop, state) for row, start, stop in tried)
        if not runs:
            return
        row, start, stop = runs[0]
        where = f"units {start} to {stop - 1}" + (f" of row {', '.join(map(str, row))}" if row else "")
        where += f", and {len(runs) - 1} more sets of units" if len(runs) > 1 else ""
        if free and len(tried) == len(runs):
            self.found[group.name] = f"{where} are equal: whichever comes first, the form is the same"
        else:
            self.open(group.name, f"nothing tells {where} apart: their order is that of the given weights")

    def _may_exchange(
        self, group: PermutationGroup, row: Row, start: int, stop: int, state: Mapping[str, Tensor]
    ) -> bool:
        """Whether every order of these units gives the same state; a swap and a cycle generate all orders."""
        orders = [[start + 1, start, *range(start + 2, stop)], [*range(start + 1, stop), start]]
        for order in orders[: 1 + (stop - start > 2)]:
            table: Index = np.broadcast_to(np.arange(group.size), group.table_shape).copy()
            table[row][start:stop] = order
            if not self._is_unchanged({group.name: parts.with_index(group.kind, table)}, state):
                return False
        return True

    def _is_unchanged(self, element: Mapping[str, Any], state: Mapping[str, Tensor]) -> bool:
        for name, layout in self.spec.layouts.items():
            if name not in self.spec.ties.aliases and element.keys() & set(layout.groups):
                moved = layout.apply(element, state[name])
                bound = max(UNCHANGED, 4 * self.rounding) * float(state[name].abs().max())
                if bool(((moved - state[name]).abs() > bound).any()):
                    return False
        return True


def _runs(colour: Numbers, equal: float) -> Iterator[tuple[Row, int, int]]:
    """(row, start, stop) of neighbours of equal colour."""
    for row in np.ndindex(colour.shape[:-1]):
        same = np.diff(colour[row]) < equal
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(int)))
        for start, stop in edges.reshape(-1, 2).tolist():
            yield row, start, stop + 1


def _flip(group: PermutationGroup, flip: Numbers) -> Any:
    if Kind(group.kind).mixes:
        return Matrix(flip[..., None] * np.eye(group.size), orthogonal=True)
    return Monomial(np.broadcast_to(np.arange(group.size), group.table_shape), flip)
