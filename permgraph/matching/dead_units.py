"""Units that are constant on the data: correlation cannot tell them apart, so weights do, all other units held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.assignment.problem import Term
from permgraph.assignment.solve import solve
from permgraph.matching.match import Match, Task
from permgraph.matching.weights.coordinate_descent import Descent
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.relaxation import Relaxation
from permgraph.symmetry.elements.parts import Index, index_of
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

MOST_ROUNDS = 20

Dead = Mapping[str, tuple[Index, Index]]
"""Group -> the units of A, and those of B, that are constant at every point."""


def dead_units(groups: Sequence[PermutationGroup], terms: Iterable[tuple[Sequence[str], Any]]) -> Dead:
    """The units that correlate with none, of groups without matrices that occur alone at all of their points.

    `terms`: for each point the names of its groups, and the correlations [..., ...] of A's units with B's.
    """
    terms, found = list(terms), dict[str, tuple[Index, Index]]()
    for group in groups:
        own = [(tuple(names), matrix) for names, matrix in terms if group.name in names]
        if own and not group.depends_on and not Kind(group.kind).mixes and {n for n, _ in own} == {(group.name,)}:
            dead_a, dead_b = (
                np.flatnonzero(~np.any([matrix.any(axis) for _, matrix in own], axis=0)) for axis in (1, 0)
            )
            if min(len(dead_a), len(dead_b)) > 1:
                found[group.name] = dead_a, dead_b
    return found


def with_dead(found: Sequence[Match], task: Task, dead: Dead) -> list[Match]:
    """The matches of two models with the dead units rearranged; more models are returned unchanged."""
    if len(found) != 2 or not dead:
        return list(found)
    (first, second), spec = found, task.spec
    element = {**spec.identity(), **second.element}
    moved = spec.applied(element, task.states[1])
    tables = rearranged(spec, task.groups, dead, second.element, task.states[0], moved)
    whole = spec.compose({**spec.identity(), **tables}, element)
    return [first, replace(second, element={name: whole[name] for name in second.element})]


def rearranged(
    spec: PermutationSpec,
    groups: Sequence[PermutationGroup],
    dead: Dead,
    element: Mapping[str, Any],
    a: Mapping[str, Tensor],
    moved: Mapping[str, Tensor],
) -> dict[str, Index]:
    """What to do to B, `moved` by `element` already, so that Σ <θ_A, π θ_B> grows: tables of groups with dead units.

    Only dead units of B that lie where A's are dead change places, so that the sum of correlations is the same. Groups
    take turns until none gains.
    """
    places = {name: _places(index_of(element[name]), *of_both) for name, of_both in dead.items()}
    places = {name: here for name, here in places.items() if len(here) > 1}
    chosen = [group for group in groups if group.name in places]
    tables: dict[str, Index] = {group.name: index_of(group.identity()) for group in chosen}
    if not places:
        return tables
    descent = Descent.of(Pairing.of(spec, chosen, a, moved))
    for _ in range(MOST_ROUNDS):
        gained = [_rearrange(descent.problem(k, tables), places, tables) for k in range(len(descent.families))]
        if not any(gained):
            break
    return tables


def _places(table: Index, dead_a: Index, dead_b: Index) -> Index:
    """The places where A's unit is dead, and B's that is moved there too."""
    return dead_a[np.isin(table[dead_a], dead_b)]


def _rearrange(problem: Relaxation, places: Mapping[str, Index], tables: dict[str, Index]) -> bool:
    """Rearrange the units at the places of a family; whether any moved. One that acts twice on a tensor stays."""
    (group,) = problem.groups
    if problem.factors or not problem.linear:
        return False
    here, now = places[group.name], tables[group.name]
    matrix = torch.stack(list(problem.linear.values())).sum(0).numpy()[np.ix_(here, now[here])]
    few = PermutationGroup(group.name, len(here), (), (), group.role)
    order = solve([few], [Term((group.name,), matrix)])[group.name]
    tables[group.name] = now.copy()
    tables[group.name][here] = now[here][order]
    return bool(np.any(order != np.arange(len(here))))
