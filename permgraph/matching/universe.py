"""Many models into one space: an element P_m for each, so that P_ab = P_a P_b⁻¹ and every cycle of maps closes.

The objective is Σ over pairs of <P_a x_a, P_b x_b>, of weights or of standardised activations. Moving all models by one
element does not change it, so the first model is the reference and its P the identity. Each other model is matched to
the sum of those already placed, then to the sum of all others in turn until none gains: block coordinate ascent. Two
models need only the first step.
Source: C2M3 (arXiv 2405.17897), which optimises all P_m by Frank-Wolfe at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from permgraph.assignment.problem import Term
from permgraph.checkpoints.lazy_state import each_once
from permgraph.comparing.batches import Progress
from permgraph.matching.correlation import Correlations
from permgraph.matching.gains import MIX, WEIGHTS, Gain
from permgraph.matching.match import Match, Task
from permgraph.matching.weights.effort import EFFORT, Effort
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.search import WeightMatch, match_weights
from permgraph.matching.weights.sites import unit_sources
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

Place = Callable[[int, Sequence[int], Match | None], Match | None]
"""(model, the models to match it to, its match so far) -> a better match, None if there is none."""

MOST_ROUNDS = 20


def settle(first: Match, count: int, place: Place, report: Callable[[int], None] = lambda done: None) -> list[Match]:
    """Place models 1, 2, … against those before them, then each against all others until none gains."""
    matches = [first]
    for model in range(1, count):
        match = place(model, range(model), None)
        assert match is not None
        matches.append(match)
        report(model)
    for _ in range(MOST_ROUNDS if count > 2 else 0):
        gained = False
        for model in range(1, count):
            better = place(model, [other for other in range(count) if other != model], matches[model])
            if better is not None:
                matches[model], gained = better, True
        if not gained:
            break
    return matches


def match_states(
    task: Task, correlations: Correlations | None = None, mix: float = 0.0, effort: Effort = EFFORT
) -> list[Match]:
    """By weights: Frank-Wolfe to the mean of those placed, descent to the mean of the others.

    The objective has a share `mix` of the `correlations` of every pair of models. The part of the weights is then, for
    more than two models, divided by the mean of the pairs' bounds |θ_a| |θ_b|, which no element changes, so that all
    models maximise one objective. Memory: the models, a moved copy of each if there are more than two, one mean, and
    the correlations.
    """
    count, everything = len(task.models), task.spec.identity()
    moved: list[Mapping[str, Tensor]] = [task.states[0]]
    tables: list[Mapping[str, Index]] = [task.unmoved().element for _ in task.states]
    gains: list[Mapping[str, Gain]] = [{} for _ in task.states]
    search = partial(
        match_weights, task.spec, task.groups, seed=task.seed, mix=mix, effort=effort,
        most=mean_bound(task.spec, task.groups, task.states) if mix and count > 2 else None,
        progress=task.progress if count == 2 else None,
    )  # fmt: skip

    def place(model: int, others: Sequence[int], now: Match | None) -> Match | None:
        terms = mean_terms(task.groups, model, others, correlations, tables) if correlations and mix else ()
        mean, start = mean_state([moved[other] for other in others]), None if now is None else now.element
        match = search(mean, task.states[model], start=start, activations=terms)
        of_model = {name: Gain(*figures, MIX if mix else WEIGHTS) for name, figures in match.gains.items()}
        gains[model] = {name: gain.of_bound for name, gain in of_model.items()} if mix else of_model
        if start is not None and all(np.array_equal(match.tables[name], start[name]) for name in start):
            return None
        if count > 2:
            moved[model:] = [task.spec.applied({**everything, **match.tables}, task.states[model]), *moved[model + 1 :]]
        tables[model] = match.tables
        return _match(match, alone=count == 2)

    matches = settle(task.unmoved(), count, place, _reporting(task.progress, count))
    return [replace(match, gains=of_model) for match, of_model in zip(matches, gains, strict=True)]


def _match(match: WeightMatch, *, alone: bool) -> Match:
    """The match from one search; against the mean of several models nothing is proven optimal."""
    exact = tuple(match.tables) if alone and match.search.proven else ()
    return Match(match.tables, exact=exact, search=match.search if alone else None)


def _reporting(progress: Progress | None, count: int) -> Callable[[int], None]:
    def report(done: int) -> None:
        if progress is not None and count > 2:
            progress("models matched", done, count - 1)

    return report


def with_unseen(matches: Sequence[Match], task: Task) -> list[Match]:
    """The matches, with groups that occur in no activation matched by weights while the others are held.

    The width of DeBERTa's table of relative positions is such a group: it is contracted with weights alone. Gains are
    then shares of the bound.
    """
    unseen = [group for group in task.groups if not any(group.name in match.gains for match in matches)]
    if not unseen:
        return list(matches)
    spec = task.spec
    moved = [
        spec.applied({**spec.identity(), **match.element}, state)
        for match, state in zip(matches, task.states, strict=True)
    ]
    further = match_states(replace(task, groups=unseen, models=task.models.with_states(*moved), progress=None))
    result = []
    for placed, more in zip(matches, further, strict=True):
        tables = spec.compose(more.element, placed.element)
        result.append(
            replace(
                placed,
                element={name: tables[name] for name in placed.element},
                gains={**placed.gains, **{name: gain.of_bound for name, gain in more.gains.items()}},
            )
        )
    return result


def mean_bound(
    spec: PermutationSpec, groups: Sequence[PermutationGroup], states: Sequence[Mapping[str, Tensor]]
) -> float:
    """The mean over pairs of models of Σ |θ_a| |θ_b| over what the groups move."""
    pairs = [Pairing.of(spec, groups, states[a], states[b]) for a, b in combinations(range(len(states)), 2)]
    return sum(pairing.bound(site) for pairing in pairs for site in pairing.sites) / len(pairs)


def mean_state(states: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """The mean of the floating-point entries; other entries are the first model's."""

    def mean(name: str) -> Tensor:
        first = states[0][name].detach()
        if not first.is_floating_point():
            return first
        total = first.to(torch.promote_types(first.dtype, torch.float32), copy=True)
        for state in states[1:]:
            total += state[name].detach().to(total.device)
        return total / len(states)

    return states[0] if len(states) == 1 else each_once(states[0], mean)


def mean_terms(
    groups: Sequence[PermutationGroup],
    model: int,
    others: Sequence[int],
    terms: Correlations,
    found: Sequence[Mapping[str, Index]],
) -> list[Term]:
    """s[u, j]: the mean over the other models of the correlation of the unit they have at u with unit j of `model`.

    Of two models these are the terms themselves.
    """
    if len(found) == 2:
        return list(terms[0, 1])
    depends = {group.name: group.depends_on for group in groups}
    sums: dict[tuple[str, ...], np.ndarray] = {}
    weights: dict[tuple[str, ...], float] = {}
    for other in others:
        for term in terms[min(other, model), max(other, model)]:
            sizes = term.matrix.shape[: len(term.groups)]
            matrix = term.matrix.reshape(np.prod(sizes, dtype=int), -1)
            rows = unit_sources(term.groups, sizes, depends, found[other])
            moved = (matrix if other < model else matrix.T)[rows].reshape(term.matrix.shape)
            if term.groups in sums:
                sums[term.groups] += moved
            else:
                sums[term.groups] = moved.astype(np.float64)
            weights[term.groups] = weights.get(term.groups, 0.0) + term.weight
    return [Term(names, matrix / len(others), weights[names] / len(others)) for names, matrix in sums.items()]
