"""By weights: no data is needed."""

from permgraph.matching.kinds.match import match_kinds
from permgraph.matching.match import Match, Task, matcher
from permgraph.matching.universe import match_states


@matcher("weights", reference="arXiv 2209.04836, arXiv 2405.17897")
def by_weights(task: Task) -> list[Match]:
    """Maximise Σ over pairs of <P_a θ_a, P_b θ_b> over all groups at once; see `permgraph.matching.weights.search`."""
    return match_states(task) if task.spec.kinds == "permutation" else match_kinds(task)
