"""By correlation: units go to the units of the other models whose activations they correlate with most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from permgraph.assignment.solve import objective, solve
from permgraph.matching.correlation import WITHOUT, Correlations, Within, correlations
from permgraph.matching.dead_units import dead_units, with_dead
from permgraph.matching.gains import correlation_gains
from permgraph.matching.groups import pinned_sizes
from permgraph.matching.kinds.match import Observed, match_kinds
from permgraph.matching.match import Match, Task, matcher, with_partners
from permgraph.matching.portions import portions
from permgraph.matching.universe import mean_terms, settle, with_unseen
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup


@matcher("correlation", reference="arXiv 1511.07543, arXiv 2506.11403", needs_data=True)
def by_correlation(
    task: Task, *, point_weights: Mapping[str, Sequence[float]] | None = None, within: Within = WITHOUT
) -> list[Match]:
    """Maximise the sum of signed correlations of matched units, at each point where a group is contracted.

    Groups that share no point are solved separately, as many at a time as their correlations fit into the limit of
    `within`, or for more than two models those of all pairs into 2 GiB; the data is read once for each pair and part.
    Groups that occur in no activation are matched by weights afterwards, and so are, of two models, units that are
    constant in both.
    """
    points = task.points(point_weights)
    if task.spec.kinds != "permutation":
        return match_kinds(task, Observed(points, within))
    parts = portions(task.groups, points, len(task.models), within.room)
    found, dead = [Match({}) for _ in task.states], dict[str, tuple[Index, Index]]()
    for number, (members, here) in enumerate(parts):
        terms = correlations(
            task.models, here, task.data, progress=task.progress, part=number, parts=len(parts), in_step=within.in_step
        )
        dead |= dead_units(members, ((term.groups, term.matrix) for term in terms[0, 1]))
        settled = with_partners(_settled(task, members, terms), members, terms)
        found = [_joined(before, more) for before, more in zip(found, settled, strict=True)]
    ordered = [replace(one, element={g.name: one.element[g.name] for g in task.groups}) for one in found]
    return with_dead(with_unseen(ordered, task), task, dead)


def _settled(task: Task, groups: Sequence[PermutationGroup], terms: Correlations) -> list[Match]:
    first = Match({group.name: group.identity() for group in groups})
    pinned, count = pinned_sizes(task.spec), len(task.models)
    tables: list[Mapping[str, Index]] = [first.element for _ in range(count)]

    def place(model: int, others: Sequence[int], now: Match | None) -> Match | None:
        means = mean_terms(groups, model, others, terms, tables)
        solution = solve(groups, means, start=None if now is None else now.element, pinned=pinned, shared=True)
        if now is not None:
            before = objective(groups, means, now.element)
            if solution.value <= before + 1e-9 * abs(before):
                gains[model] = correlation_gains(groups, means, now.element)
                return None
        gains[model] = correlation_gains(groups, means, solution)
        tables[model] = dict(solution)
        exact = tuple(name for name in solution.exact if name in gains[model]) if count == 2 else ()
        return Match(tables[model], exact=exact)

    gains = [correlation_gains((), (), {}) for _ in range(count)]
    return [replace(one, gains=own) for one, own in zip(settle(first, count, place), gains, strict=True)]


def _joined(one: Match, other: Match) -> Match:
    """Two matches of one model, by different groups, as one."""
    return Match(
        {**one.element, **other.element},
        {**one.gains, **other.gains},
        one.exact + other.exact,
        partners=one.partners + other.partners,
    )
