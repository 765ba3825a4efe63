"""A start for descent that needs one tensor of each model at a time: families are placed one after the other.

Frank-Wolfe holds all sites at once. Here the family of which most is known comes next: that whose sites run over the
most coordinates for each of its units, counting the axes that nothing moves (tokens, pixels, labels) and the families
that are placed. Those that are not yet placed are at their barycentre. A residual stream is thus placed by its
embedding, then each layer's units by the stream, with every tensor read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from math import prod

from permgraph.matching.weights.coordinate_descent import Descent, group_gains, improved
from permgraph.matching.weights.relaxation import relax
from permgraph.matching.weights.sites import Family, Site
from permgraph.symmetry.parts import Index


@dataclass(frozen=True)
class Placed:
    """Tables of all groups; `settled`: the families with nothing beside them that was placed later, with gains."""

    tables: dict[str, Index]
    gains: dict[str, tuple[float, float]]
    settled: tuple[int, ...]


def in_turn(
    descent: Descent, identity: Mapping[str, Index], progress: Callable[[int, int], None] | None = None
) -> Placed:
    """Each family assigned once, the best known first, those before it held and those after it averaged."""
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
    """Coordinates over which the units of a family are seen, those of `unplaced` families left out, for each unit."""
    mine = {group.name for group in family}
    seen = sum(_seen(site, mine, unplaced) for site in near)
    return seen / max(group.size * group.count for group in family)


def _seen(site: Site, mine: Set[str], unplaced: Set[str]) -> float:
    free = [action for action in site.actions if not mine.isdisjoint(action.axes)]
    gone = [x for x in site.actions if x not in free and any(name in unplaced for name in x.axes)]
    lost = {leaf for action in (*free, *gone) for leaf in action.leaves}
    return float(prod(leaf.size for k, leaf in enumerate(site.cell.leaves) if k not in lost))
