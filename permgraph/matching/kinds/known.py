"""What places tell about a family while others are unknown."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from math import prod
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.matching.kinds.crosses import is_once
from permgraph.matching.weights.sites import Family, Site
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.parts import Matrix


def usable(sites: Iterable[Site], names: Set[str], unknown: Container[str]) -> list[Site]:
    """The sites where groups of these names act once, and beside them none that is unknown.

    Further signs of their own units may be unknown: they are chosen with the units.
    """
    return [
        site
        for site in sites
        if is_once(site, names)
        and not any(name in unknown for name in site.names - names)
        and not any(move.group in unknown for move in _beside(site.cell, names))
    ]


def _beside(cell: Cell, names: Set[str]) -> Iterator[Move]:
    """The signs that act on a cell, but for those of units that groups of these names move."""
    own = [move.leaves for move in cell.moves if move.group in names]
    for move in cell.moves:
        is_of_own = bool(move.keys) and move.keys[-1] in own
        if move.group not in names and not move.leaves and move.power % 2 and not is_of_own:
            yield move


def share(here: Iterable[Site], sites: Iterable[Site]) -> float:
    """The numbers at some sites, as a share of those at all."""
    whole = sum(site.cell.size for site in sites)
    return sum(site.cell.size for site in here) / whole if whole else 0.0


def is_scarce(family: Family, here: Sequence[Site], faint: Mapping[str, Any]) -> bool:
    """Whether sites may have too few vectors, or too few directions of them, to determine a rotation of a family.

    `faint`: the groups of whose rotation some directions are not determined.
    """
    lacks = any(faint.keys() & (site.names - {group.name for group in family}) for site in here)
    return any(Kind(g.kind).mixes and (lacks or _vectors(g.name, here) < 2 * g.size) for g in family)


def _vectors(name: str, here: Iterable[Site]) -> int:
    """How many vectors of the units of a group are at some sites, for each index of what it depends on."""
    return sum(
        site.cell.size // prod(site.sizes(action)) for site in here for action in site.actions if name in action.axes
    )


def rank(projection: Matrix) -> int:
    """Of all matrices of a projection."""
    return round(float(np.trace(projection.matrix, axis1=-2, axis2=-1).sum()))
