"""By gradient, on unlabelled data: the element under which merges do what both models do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permgraph.comparing.calibration import Calibration
from permgraph.errors import OptionError
from permgraph.learning.element import learn
from permgraph.learning.objective import Loss
from permgraph.matching.kinds.match import match_kinds, weight_gains
from permgraph.matching.match import Match, Task, matcher


@matcher("learned", reference="arXiv 2506.22712", needs_data=True)
def by_learning(
    task: Task, *, start: Any = None, steps: int = 400, rate: float = 1e-2, loss: Loss = None
) -> list[Match]:
    """Minimise the loss of λ A + (1 - λ) B' over scales, rotations and invertible maps; see `permgraph.learning`.

    Begun at `start`, an alignment or an element of the same group, or where matching by weights comes to. Each model
    but the first is learned against the first alone.
    """
    if not any(group.dimension for group in task.groups):
        raise OptionError(
            'method "learned" learns scales, rotations and invertible maps, and no group here has any: give '
            'kinds="all" and the groups that have them'
        )
    if start is None:
        begun = [match.element for match in match_kinds(task)]
    else:
        begun = [{}, *[_element(start)] * (len(task.models) - 1)]
    found = [task.unmoved()]
    for number in range(1, len(task.models)):
        calibration = Calibration(task.models.pair(0, number), task.data, task.progress)
        learned = learn(
            calibration,
            task.spec,
            begun[number],
            groups=task.groups,
            steps=steps,
            rate=rate,
            seed=task.seed,
            loss=loss,
        )
        states, element = (task.states[0], task.states[number]), learned.permutations
        gains = weight_gains(task.spec, task.groups, *states, task.spec.apply(element, states[1]))
        found.append(Match(element, gains, descent=learned.descent))
    return found


def _element(start: Any) -> Mapping[str, Any]:
    """The element of an alignment, or one given as it is."""
    found = getattr(start, "permutations", start)
    if not isinstance(found, Mapping):
        raise OptionError(f"start is an alignment or an element of the group, not {type(start).__name__}")
    return found
