"""By weights: no data is needed."""

from permgraph.matching.kinds.match import match_kinds
from permgraph.matching.match import Match, Task, matcher
from permgraph.matching.universe import match_states
from permgraph.matching.weights.effort import EFFORT, Effort


@matcher("weights", reference="arXiv 2209.04836, arXiv 2405.17897")
def by_weights(task: Task, *, effort: Effort = EFFORT, rounds: int | None = None) -> list[Match]:
    """Maximise Σ over pairs of <P_a θ_a, P_b θ_b> over all groups at once; see `permgraph.matching.weights.search`.

    `effort` is that of the search for permutations; other kinds are matched by closed forms, once
    and in at most so many further `rounds`: 2 where weights are read on demand, else 60.
    """
    return match_states(task, effort=effort) if task.spec.kinds == "permutation" else match_kinds(task, rounds=rounds)
