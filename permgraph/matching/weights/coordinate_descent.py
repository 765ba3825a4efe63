"""Coordinate descent: the families of nested groups are assigned in turn, all others held, until none gains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from permgraph.matching.weights.effort import EFFORT, SIZES, Effort
from permgraph.matching.weights.frank_wolfe import frank_wolfe
from permgraph.matching.weights.freed_memory import return_freed
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.relaxation import Relaxation, relax
from permgraph.matching.weights.similarities import Similarities
from permgraph.matching.weights.sites import Family, Site, families
from permgraph.symmetry.elements.parts import Index


@dataclass(frozen=True)
class Descended:
    """Where descent ended.

    Attributes:
        tables: of all groups.
        gains: group -> the sum over its sites with its family at the identity, and with all at `tables`.
        sweeps: how many times a family was assigned, on average.
        fixed_point: whether no family could gain more with the others held.

    """

    tables: dict[str, Index]
    gains: dict[str, tuple[float, float]]
    sweeps: float
    fixed_point: bool


@dataclass(frozen=True)
class Descent:
    """The families of a pairing, and the sites where each acts."""

    pairing: Pairing
    families: tuple[Family, ...]
    near: tuple[tuple[Site, ...], ...] = field(repr=False)
    kept: Similarities = field(repr=False)

    @classmethod
    def of(cls, pairing: Pairing) -> Descent:
        """All families that may move."""
        found = tuple(families(pairing.groups))
        near = tuple(
            tuple(site for site in pairing.sites if not site.names.isdisjoint(g.name for g in f)) for f in found
        )
        return cls(pairing, found, near, Similarities.of(pairing))

    def run(
        self,
        tables: Mapping[str, Index],
        first: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
        *,
        settled: Collection[int] = (),
        known: Mapping[str, tuple[float, float]] | None = None,
    ) -> Descended:
        """Descend from `tables`. Families with a group in `first` go first, and a family is assigned again only if a
        neighbour moved. A family that acts twice on a site must be searched, and waits until the others have converged.
        Families numbered in `settled` are optimal at `tables`, with gains that are `known`.

        Each assignment is the exact best response where the family acts once on every site, so F never falls.
        Git Re-Basin (arXiv 2209.04836), algorithm 1, with nested assignment in place of a flat one.
        """
        now, early = dict(tables), set(first)
        order = sorted(range(len(self.families)), key=lambda k: not any(g.name in early for g in self.families[k]))
        waiting, done, visited = [k for k in order if k not in settled], 0, set(settled)
        gains = dict(known or {})
        while waiting and done < self.pairing.effort.sweeps * len(order):
            k = next((j for j in waiting if j not in visited or not self._searched(j)), waiting[0])
            waiting.remove(k)
            done += 1
            self._return_freed()
            problem = self.problem(k, now)
            self._return_freed()
            if better := improved(problem, now, self.pairing.effort, self.enough, again=k in visited):
                now |= better
                waiting += [j for j in order if j != k and j not in waiting and self.meet(j, k)]
            visited.add(k)
            gains |= group_gains(problem, now)
            del problem  # before the next one, whose matrix may be as large
            if progress is not None:
                progress(done, done + len(waiting))
        return Descended(now, gains, done / max(len(order), 1), not waiting)

    @property
    def enough(self) -> float:
        """The least gain that moves a family, as a share of its own objective."""
        effort = self.pairing.effort
        return effort.enough if self.pairing.size <= effort.hurried_above else effort.enough_if_hurried

    def problem(self, k: int, tables: Mapping[str, Index]) -> Relaxation:
        """F as a function of family k alone."""
        return relax(
            self.pairing, {group.name for group in self.families[k]}, tables, where=self.near[k], kept=self.kept
        )

    def _searched(self, k: int) -> bool:
        """Whether family k acts twice on a site."""
        mine = {group.name for group in self.families[k]}
        return any(sum(not mine.isdisjoint(action.axes) for action in site.actions) > 1 for site in self.near[k])

    def _return_freed(self) -> None:
        if self.pairing.size >= SIZES.freed_above:
            return_freed()

    def meet(self, j: int, k: int) -> bool:
        """Whether two families act on one site, so that the move of one concerns the other."""
        mine = {id(site) for site in self.near[k]}
        return any(id(site) in mine and len(site.actions) > 1 for site in self.near[j])


def improved(
    problem: Relaxation,
    tables: Mapping[str, Index],
    effort: Effort = EFFORT,
    enough: float = EFFORT.enough,
    *,
    again: bool = False,
) -> dict[str, Index] | None:
    """Tables for the groups of a problem that are better by more than `enough` of F; None if there are none.

    `again`: this is not the first visit, so a family that acts twice on a site is improved only from its present
    tables. If the tables reach the problem's ceiling nothing is assigned: on a true match every row's maximum is its
    match.
    """
    now = {group.name: tables[group.name] for group in problem.groups}
    before = problem.at(problem.flat(now))
    best, value = None, before + enough * abs(before)
    if value >= problem.ceiling:
        return None
    for candidate in _candidates(problem, now, effort, again):
        reached = problem.at(problem.flat(candidate))
        if reached > value:
            best, value = candidate, reached
    return best


def group_gains(problem: Relaxation, tables: Mapping[str, Index]) -> dict[str, tuple[float, float]]:
    """Group -> its share of F at the identity of the family, and at `tables`."""
    identity = problem.shares(problem.flat({group.name: group.identity() for group in problem.groups}))
    reached = problem.shares(problem.flat(tables))
    return {group.name: (identity[group.name], reached[group.name]) for group in problem.groups}


def _candidates(
    problem: Relaxation, now: Mapping[str, Index], effort: Effort, again: bool
) -> Iterator[dict[str, Index]]:
    """The assignment; for a family that acts twice on a site, Frank-Wolfe from here and, at first, the barycentre.

    For such a group of at most `effort.enumerated` units, all elements are tried.
    """
    if not problem.factors:
        yield dict(problem.best(problem.linear, now))
        return
    if len(problem.groups) == 1 and problem.groups[0].count == 1 and problem.groups[0].size <= effort.enumerated:
        (group,) = problem.groups
        yield from ({group.name: np.array(element)} for element in permutations(range(group.size)))
        return
    centre = problem.barycentre()
    here = problem.toward(centre, problem.flat(now), 1.0)
    for start in (here,) if again else (here, centre):
        yield frank_wolfe(problem, start, effort=effort).tables
