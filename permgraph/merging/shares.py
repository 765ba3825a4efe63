"""A's share of every tensor: one number, one for each group or role, or what the matched correlation allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from permgraph.errors import OptionError
from permgraph.matching.alignment import Alignment
from permgraph.matching.gains import CORRELATION
from permgraph.matching.groups import select
from permgraph.symmetry.elements.cells import Cell
from permgraph.symmetry.specification.spec import PermutationSpec

Share = float | Tensor
"""A model's share, of a whole tensor or of each element."""
DEFAULT, EQUAL = "default", 0.5
Weight = float | str | Mapping[str, float]
"""A's share; "correlation"; or shares by group or role, "default" for the rest."""


@dataclass(frozen=True)
class Shares:
    """A's share of every tensor. `by_group` has the groups that have one of their own.

    A cell of a tensor belongs to one axis: the first on which a group other than a residual stream acts, or the
    first that moves at all. Of the groups on that axis the innermost one that has a share decides, and `default`
    where none has: the rows of a query projection follow `attention.qk` before `attention.heads`, and no layer follows
    the residual stream unless nothing else acts on it.
    """

    default: float
    by_group: Mapping[str, float] = field(default_factory=dict)
    spec: PermutationSpec | None = None

    def of(self, name: str) -> Share:
        """The share of a state-dict entry: a number, or one for each element where its cells differ."""
        layout = self.spec.layouts.get(name) if self.spec is not None and self.by_group else None
        if layout is None or not layout.cells:
            return self.default
        found = [self._of_cell(cell) for cell in layout.cells]
        if len(set(found)) == 1:
            return found[0]
        result = np.empty(layout.shape)
        for cell, share in zip(layout.cells, found, strict=True):
            ranges = (cell.positions(dim, cell.own_coordinates(dim)).ravel() for dim in range(len(layout.shape)))
            result[np.ix_(*ranges)] = share
        return torch.from_numpy(result)

    def of_rows(self, name: str, dim: int) -> Tensor:
        """[n]: the share of each index on dimension `dim`, the mean over the others. float64."""
        assert self.spec is not None or isinstance(self.of(name), float)
        share = self.of(name)
        if isinstance(share, Tensor):
            return share.movedim(dim, 0).flatten(1).mean(1)
        return torch.tensor([share], dtype=torch.float64, device="cpu")

    def _of_cell(self, cell: Cell) -> float:
        assert self.spec is not None
        moves = [move for move in cell.moves if move.leaves]  # further signs act on units that others move
        roles = {move.group: self.spec[move.group].role for move in moves}
        dims = {move: min(cell.leaves[k].dim for k in move.leaves) for move in moves}
        order = sorted(moves, key=lambda m: (roles[m.group].partition(".")[0] == "residual", dims[m]))
        here = [move for move in order if dims[move] == dims[order[0]]]
        own = (self.by_group[m.group] for m in sorted(here, key=lambda m: -len(m.keys)) if m.group in self.by_group)
        return next(own, self.default)


def shares_of(weight: Weight, alignment: Alignment | None, spec: PermutationSpec | None) -> Shares:
    """The shares that `weight` means.

    Raises:
        OptionError: a share outside [0, 1], a word other than "correlation", or shares by group with nothing that
            tells the groups.
        SpecMismatchError: a key is no name or role of a group.

    """
    if isinstance(weight, str):
        if weight != CORRELATION:
            raise OptionError(f'weight is a number, shares by group or role, or "correlation", not {weight!r}')
        if alignment is None:
            raise OptionError('weight "correlation" needs an alignment by correlation: pass alignment=')
        weight = correlation_shares(alignment)
    if not isinstance(weight, Mapping):
        return Shares(_checked(weight))
    spec = spec or (alignment.spec if alignment is not None else None)
    if spec is None:
        raise OptionError("shares by group or role need the groups: pass alignment= or spec=")
    named = {name: _checked(share) for name, share in weight.items() if name != DEFAULT}
    by_group: dict[str, float] = {}
    for name in sorted(named, key=len):  # of the keys that cover a group the longest, the most special, is kept
        by_group.update({group.name: named[name] for group in select(spec, [name])})
    return Shares(_checked(weight.get(DEFAULT, EQUAL)), by_group, spec)


def correlation_shares(alignment: Alignment, weight: float = EQUAL) -> dict[str, float]:
    """1 - (1 - weight) · r for each group, r its matched correlation, no less than 0: shares for `merge`.

    A group whose units match perfectly is merged with A's share at `weight`; what of it does not match is A's.
    What no group with a correlation moves has the share `weight`. Raises OptionError for an alignment that knows no
    correlations.
    """
    if alignment.method != CORRELATION:
        raise OptionError(
            f'weight "correlation" needs an alignment by correlation, and this one is by "{alignment.method}"'
        )
    known = {name: gain.solution for name, gain in alignment.gains.items() if gain.measure == CORRELATION}
    return {name: 1 - (1 - weight) * min(max(r, 0.0), 1.0) for name, r in known.items()} | {DEFAULT: weight}


def _checked(share: float) -> float:
    if not 0 <= share <= 1:
        raise OptionError(f"weight is A's share, between 0 and 1, not {share}")
    return float(share)
