"""Similarities of a family's units with all other families held: cached, and updated by what moved since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from permgraph.matching.weights.doubly_stochastic import gather
from permgraph.matching.weights.effort import SIZES
from permgraph.matching.weights.freed_memory import return_freed
from permgraph.matching.weights.objective import Pairing, slabs
from permgraph.matching.weights.polynomial import products
from permgraph.matching.weights.sites import Axes, Site
from permgraph.symmetry.elements.parts import Index

Place = tuple[Site, int]
"""A site, and the number of the one action on it that is free."""

Sources = Mapping[Axes, Index]
"""Axes of a held action -> the sources of its units."""


@dataclass
class Kept:
    """A similarity, and the sources of all held actions that it was computed at."""

    matrix: Tensor
    held: dict[Axes, Index]


@dataclass
class Similarities:
    """S[u, u'] = Σ over sites of <A[u], B[u']>, every other action applied to B, for one action of a family at a time.

    S is linear in B, so where held actions moved from P to Q, S changes by <A[u], (Q - P) B[u']>; where one did, that
    is a product over the units that moved. Matrices that fit into `room` bytes, the small ones first, are kept; the
    others are made anew.
    """

    pairing: Pairing
    room: int
    kept: dict[Axes, Kept | None] = field(default_factory=dict)

    @classmethod
    def of(cls, pairing: Pairing) -> Similarities:
        """The similarities of a pairing, with room to cache small matrices: the largest rarely change and cost most."""
        size = pairing.dtype.itemsize
        effort = pairing.effort
        room = max(effort.room_at_least, int(2 * effort.room * size * pairing.size))
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
            site, free = places[0]
            units = prod(site.sizes(site.actions[free]))
            matrix = torch.zeros(units, units, dtype=self.pairing.dtype, device="cpu")
            for place in places:
                self._add(matrix, place, held)
            if axes in self.kept:
                self.kept[axes] = Kept(matrix, held)
            return matrix
        for place in places:
            self._add(known.matrix, place, held, known.held)
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

    def _add(self, total: Tensor, place: Place, now: Sources, before: Sources | None = None) -> None:
        """Adds <A[u], Q B[u']> to `total`, Q the held actions at `now`; with `before`, <A[u], (Q - P) B[u']>.

        `SIZES.slab` elements of one held action at a time, and of what moved alone, if one did; sites where actions
        share atoms, or where nothing is held, at once.
        """
        site, free = place
        held = [k for k in range(len(site.actions)) if k != free]
        moved = [k for k in held if before is None or _differs(site.actions[k].axes, before, now)]
        if before is not None and not moved:
            return
        if not held or len(site.atoms) != len(site.actions):
            new = self.pairing.at(site, now, {free})
            change = new if before is None else new - self.pairing.at(site, before, {free})
            products(self.pairing.a(site), change, site.spans[free], total)
            return
        alone = before is not None and len(moved) == 1
        self._add_slabs(total, place, [*moved[:1], *(k for k in held if k != moved[0])], now, before, alone)

    def _add_slabs(
        self, total: Tensor, place: Place, held: Sequence[int], now: Sources, before: Sources | None, alone: bool
    ) -> None:
        site, free = place
        a, b = self.pairing.a(site), self.pairing.b(site)
        spans, axes = [site.spans[k] for k in held], [site.actions[k].axes for k in held]
        (atom,) = spans[0]
        units = np.arange(a.shape[atom])
        if before is not None and alone:
            units = np.flatnonzero(before[axes[0]] != now[axes[0]])

        def part(sources: Sources, some: Index) -> Tensor:
            return gather(b, spans, [sources[axes[0]][some], *(sources[other] for other in axes[1:])])

        for some in (units[rows] for rows in slabs(a.shape[atom], a.numel(), of=len(units))):
            moved = part(now, some) if before is None else part(now, some).sub_(part(before, some))
            here = a.index_select(atom, torch.from_numpy(some)) if alone else a.narrow(atom, int(some[0]), len(some))
            products(here, moved, site.spans[free], total)
            if a.numel() > SIZES.slab:
                del moved
                return_freed()


def _differs(axes: Axes, one: Sources, other: Sources) -> bool:
    return not np.array_equal(one[axes], other[axes])
