"""Similarities of a family's units, all else held: kept from visit to visit, and changed by what moved in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from permgraph.matching.factors import products
from permgraph.matching.objective import Pairing
from permgraph.matching.places import Axes, Site
from permgraph.symmetry.layout import Index

Place = tuple[Site, int]
"""A site, and the number of the one action on it that is free."""

ROOM = 0.1
"""What the kept matrices may take, as a share of the parameters that the groups move, in A and B together."""
ROOM_AT_LEAST = 2**25  # bytes


@dataclass
class Kept:
    """A similarity, and the sources of all held actions that it was computed at."""

    matrix: Tensor
    held: dict[Axes, Index]


@dataclass
class Similarities:
    """S[u, u'] = Σ over sites of <A[u], B[u']>, every other action applied to B, for one action of a family at a time.

    S is linear in B, so where one held action moved from P to Q, S changes by <A[u], (Q - P) B[u']>, a product over the
    units that moved. Matrices that fit into `room` bytes, the small ones first, are kept; the others are made anew.
    """

    pairing: Pairing
    room: int
    kept: dict[Axes, Kept | None] = field(default_factory=dict)

    @classmethod
    def of(cls, pairing: Pairing) -> Similarities:
        """Room for what matters: the largest matrices change least often, and cost most."""
        size = pairing.dtype.itemsize
        room = max(ROOM_AT_LEAST, int(2 * ROOM * size * pairing.size))
        units = {action.axes: prod(site.sizes(action)) for site in pairing.sites for action in site.actions}
        found = cls(pairing, room)
        for axes, count in sorted(units.items(), key=lambda item: item[1]):
            room -= size * count**2
            if room >= 0:
                found.kept[axes] = None
        return found

    def at(self, axes: Axes, places: Sequence[Place], tables: Mapping[str, Index]) -> Tensor:
        """S of the action `axes` over `places`, the others at `tables`; [units, units], not to be written to."""
        held = self._held(places, tables)
        known = self.kept.get(axes)
        if known is None:
            matrix = self._sum(
                products(self.pairing.a(s), self.pairing.at(s, held, {k}), s.spans[k]) for s, k in places
            )
            if axes in self.kept:
                self.kept[axes] = Kept(matrix, held)
            return matrix
        for site, k in places:
            moved = [
                j
                for j, action in enumerate(site.actions)
                if j != k and not np.array_equal(known.held[action.axes], held[action.axes])
            ]
            if moved:
                known.matrix += self._change(site, k, moved, known.held, held)
        known.held = held
        return known.matrix

    def _held(self, places: Sequence[Place], tables: Mapping[str, Index]) -> dict[Axes, Index]:
        """The sources of every action but the free ones."""
        found: dict[Axes, Index] = {}
        for site, free in places:
            for k, action in enumerate(site.actions):
                if k != free and action.axes not in found:
                    found[action.axes] = self.pairing.index(action, site, tables)
        return found

    @staticmethod
    def _sum(parts: Iterable[Tensor]) -> Tensor:
        total: Tensor | None = None
        for part in parts:
            total = part if total is None else total.add_(part)
        assert total is not None
        return total

    def _change(
        self, site: Site, free: int, moved: Sequence[int], before: Mapping[Axes, Index], after: Mapping[Axes, Index]
    ) -> Tensor:
        """<A[u], (Q - P) B[u']> on a site; over the units that moved alone, where one action did and shares no atom."""
        a, span = self.pairing.a(site), site.spans[free]
        if len(moved) > 1 or len(site.atoms) != len(site.actions):
            return products(a, self.pairing.at(site, after, {free}) - self.pairing.at(site, before, {free}), span)
        axes, (atom,) = site.actions[moved[0]].axes, site.spans[moved[0]]
        b = self.pairing.at(site, after, {free, moved[0]})
        units = np.flatnonzero(before[axes] != after[axes])
        new, old = (b.index_select(atom, torch.from_numpy(index[axes][units])) for index in (after, before))
        return products(a.index_select(atom, torch.from_numpy(units)), new.sub_(old), span)
