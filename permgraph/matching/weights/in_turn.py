"""A start for descent that needs one tensor of each model at a time: families are placed one after the other.

Frank-Wolfe holds all sites at once. Here the family with the most evidence comes next: the one whose sites have the
most coordinates for each of its units, counting the axes that nothing moves (tokens, pixels, labels) and those of
placed families. Families that are not yet placed are at their barycentre. So a residual stream is placed by its
embedding, then the units of each layer by the stream, and every tensor is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from math import prod

from permgraph.matching.weights.coordinate_descent import Descent, group_gains, improved
from permgraph.matching.weights.relaxation import relax
from permgraph.matching.weights.sites import Family, Site, units_of
from permgraph.symmetry.elements.parts import Index


@dataclass(frozen=True)
class Placed:
    """Tables of all groups; `settled`: families none of whose neighbours was placed later, with their gains."""

    tables: dict[str, Index]
    gains: dict[str, tuple[float, float]]
    settled: tuple[int, ...]


def in_turn(
    descent: Descent, identity: Mapping[str, Index], progress: Callable[[int, int], None] | None = None
) -> Placed:
    """Assign each family once, those with the most evidence first; placed families are held, later ones averaged."""
    pairing, tables, gains = descent.pairing, dict(identity), dict[str, tuple[float, float]]()
    waiting, settled = list(range(len(descent.families))), list[int]()
    while waiting:
        unplaced = {group.name for k in waiting for group in descent.families[k]}
        k = max(waiting, key=lambda j: (known(descent.families[j], descent.near[j], unplaced), -j))
        waiting.remove(k)
        mine = {group.name for group in descent.families[k]}
        averaged = unplaced - mine
        problem = relax(pairing, mine, tables, averaged=averaged, where=descent.near[k])
        tables |= improved(problem, tables, pairing.effort, descent.enough) or {}
        if not any(descent.meet(j, k) for j in waiting):
            settled.append(k)
            gains |= group_gains(problem, tables)
        del problem
        if progress is not None:
            progress(len(descent.families) - len(waiting), len(descent.families))
    return Placed(tables, gains, tuple(settled))


def known(family: Family, near: Collection[Site], unplaced: Set[str]) -> float:
    """The number of coordinates that compare a unit of the family, without those of `unplaced` families."""
    mine = {group.name for group in family}
    seen = sum(_seen(site, mine, unplaced) for site in near)
    return seen / units_of(family)


def _seen(site: Site, mine: Set[str], unplaced: Set[str]) -> float:
    free = [action for action in site.actions if not mine.isdisjoint(action.axes)]
    gone = [x for x in site.actions if x not in free and any(name in unplaced for name in x.axes)]
    lost = {leaf for action in (*free, *gone) for leaf in action.leaves}
    return float(prod(leaf.size for k, leaf in enumerate(site.cell.leaves) if k not in lost))
