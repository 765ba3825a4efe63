"""By gradient, on unlabelled data: the element under which merges do what both models do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from permgraph.comparing.calibration import Calibration
from permgraph.errors import CalibrationError, OptionError
from permgraph.learning.element import halfway_loss, learn
from permgraph.learning.objective import Loss
from permgraph.matching.correlation import WITHOUT, Within
from permgraph.matching.kinds.gains import weight_gains
from permgraph.matching.kinds.match import Observed, match_kinds
from permgraph.matching.match import Match, Task, matcher
from permgraph.symmetry.specification.spec import PermutationSpec

STARTING = 8
"""Batches from which the start is chosen."""
BOTH = 0.5
"""The share of activations in a start by both."""


@matcher("learned", reference="arXiv 2506.22712", needs_data=True)
def by_learning(
    task: Task,
    *,
    start: Any = None,
    steps: int = 400,
    rate: float | None = None,
    loss: Loss = None,
    within: Within = WITHOUT,
) -> list[Match]:
    """Minimise the loss of λ A + (1 - λ) B' over scales, rotations and invertible maps; see `permgraph.learning`.

    It begins at `start`, an alignment or an element of the same group; by default at the result of matching by weights,
    by activations on the first STARTING batches, or by both at once, whichever has the lowest loss half way on these
    batches; both at once only without a limit on memory. Permutations and signs stay those of the start. Each model but
    the first is learned against the first alone. `within`: how much is held at once while activations are matched for
    the start.
    """
    if not any(group.dimension for group in task.groups):
        raise OptionError(
            'method "learned" learns scales, rotations and invertible maps, and no group here has any: '
            + _otherwise(task.spec)
        )
    begun = _starts(task, within) if start is None else [[_element(start)]] * len(task.models)
    found = [task.unmoved()]
    for number in range(1, len(task.models)):
        calibration = Calibration(task.models.pair(0, number), task.data, task.progress)
        learned = learn(
            calibration,
            task.spec,
            _best(calibration, task.spec, begun[number], loss),
            groups=task.groups,
            steps=steps,
            rate=rate,
            seed=task.seed,
            loss=loss,
        )
        states, element = (task.states[0], task.states[number]), learned.permutations
        gains = weight_gains(task.spec, task.groups, *states, task.spec.applied(element, states[1]))
        found.append(Match(element, gains, descent=learned.descent))
    return found


def _otherwise(spec: PermutationSpec) -> str:
    """What to do where nothing can be learned."""
    if any(group.dimension for group in spec.groups):
        return "move the groups that have them too"
    return 'give kinds="all", or, where that is what you gave, another method'


def _starts(task: Task, within: Within) -> list[list[Mapping[str, Any]]]:
    """For each model what matching by weights finds, and by activations and by both where there are enough of them."""
    by_weights = match_kinds(task)
    points, few = task.points(), replace(task, batches=task.data.beginning(STARTING))
    found = [by_weights]
    with suppress(CalibrationError):  # the first batches can be too few for correlations, and enough to learn from
        found.append(match_kinds(few, Observed(points, within)))
        if within.room is None:
            found.append(match_kinds(few, Observed(points, mix=BOTH)))
    return [[match.element for match in matches] for matches in zip(*found, strict=True)]


def _best(
    calibration: Calibration, spec: PermutationSpec, starts: Sequence[Mapping[str, Any]], loss: Loss
) -> Mapping[str, Any]:
    """The start of least loss on the first batches."""
    if len(starts) == 1:
        return starts[0]
    batches = list(calibration.batches.beginning(STARTING).stream())
    return min(starts, key=lambda start: halfway_loss(calibration, spec, start, batches, loss))


def _element(start: Any) -> Mapping[str, Any]:
    """The element of an alignment, or one given as it is."""
    found: Mapping[str, Any] = getattr(start, "permutations", start)
    return found
