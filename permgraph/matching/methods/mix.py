"""By weights and activations at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from permgraph.matching.correlation import correlations
from permgraph.matching.kinds.match import Observed, match_kinds
from permgraph.matching.match import Match, Task, matcher, with_partners
from permgraph.matching.universe import match_states
from permgraph.matching.weights.effort import EFFORT, Effort


@matcher("mix", reference="arXiv 2403.01753", needs_data=True)
def by_both(
    task: Task,
    *,
    mix: float,
    point_weights: Mapping[str, Sequence[float]] | None = None,
    effort: Effort = EFFORT,
) -> list[Match]:
    """Maximise (1 - mix) F / F_max + mix C / C_max: F as by weights, C the correlation of units, each at most 1.

    The correlations of all pairs of models are held at once.
    """
    points = task.points(point_weights)
    if task.spec.kinds != "permutation":
        return match_kinds(task, Observed(points, mix=mix))
    terms = correlations(task.models, points, task.data, progress=task.progress)
    return with_partners(match_states(task, terms, mix, effort), task.groups, terms)
