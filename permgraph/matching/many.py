"""More than two models into one space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

from torch import Tensor, nn

from permgraph.checkpoints.reading import require_finite
from permgraph.comparing.models import Batch, Pair, Progress, as_batch
from permgraph.comparing.points import Point, find_points, weigh
from permgraph.errors import CalibrationError, SpecMismatchError, VerificationError
from permgraph.matching.align import agreed, covering, method_and_mix, pinned_sizes, require_pair, select
from permgraph.matching.gains import Gain
from permgraph.matching.universe import correlated, universe_by_correlation, universe_by_weights, with_unseen
from permgraph.symmetry.derivation import Derivation
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.spec import PermutationSpec
from permgraph.symmetry.verification import certify
from permgraph.tracing.capture import as_args, capture, require_same
from permgraph.tracing.run import bind, one_sample


@dataclass(frozen=True, eq=False)
class Placement(Permutations):
    """The element that moves one of many models into the common space, with the specification of its groups.

    `gains`: as of an `Alignment`, with the mean of all other models, moved, in place of A; none for the first model.
    """

    spec: PermutationSpec = field(repr=False)
    gains: Mapping[str, Gain] = field(repr=False, default_factory=dict)


def match_many(
    models: Sequence[nn.Module],
    data: Iterable[Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    spec: PermutationSpec | None = None,
    method: str | None = None,
    mix: float | None = None,
    point_weights: Mapping[str, Sequence[float]] | None = None,
    groups: Sequence[str] | None = None,
    outputs: str = "fixed",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Placement, ...]:
    """One element P_m a model, into a common space: `spec.apply(P_m, state_m)` lines all of them up.

    The map from b to a is P_ab = compose(invert(P_a), P_b), so every cycle closes by construction. The first model is
    the reference and its P the identity, which loses nothing: the objective does not change when all are moved alike.
    Every moved model is proved to compute what it did. Data is read once for every pair of models, and kept if it
    can be read only once; see `permgraph.matching.universe` for memory, and `align` for the arguments. With a mix, the
    correlations of all pairs are held at once. Each element has the `gains` of its model.

    Raises:
        SpecMismatchError: fewer than two models, models that differ in architecture, or `groups` that name nothing.
        CheckpointError: a weight is not finite.
        CalibrationError: the data is empty, not finite, constant or too short.
        OptionError: `method`, `mix` or `point_weights` is not what it can be.
        VerificationError: an element would change its model's function; nothing is returned.

    """
    method, mix = method_and_mix(method, mix, data)
    states = states_of(models)
    batches = list(data) if data is not None and _reads_once(data) else data
    given = (as_args(args), dict(kwargs or {}))
    example = given if any(given) or batches is None else _first(batches)
    pairs = _pairs(models, states, example)
    derivation = Derivation(pairs[0, 1].program(*example), spec.outputs if spec is not None else outputs, {})
    spec = agreed(spec, derivation.spec)
    chosen = select(spec, groups)
    points: list[Point] = []
    report = None if progress is None else partial(progress, "pairs correlated")
    if mix:
        points = weigh(find_points(derivation, [g.name for g in chosen]), point_weights or {}, covering(spec))
    if mix == 1 and batches is not None:
        placed = universe_by_correlation(chosen, points, pairs, batches, pinned=pinned_sizes(spec), progress=progress)
        placed = with_unseen(placed, spec, chosen, states, seed=seed)
    else:
        terms = correlated(pairs, points, batches, report) if mix and batches is not None else None
        placed = universe_by_weights(spec, chosen, states, correlations=terms, mix=mix, seed=seed, progress=progress)
    found = tuple(
        Placement({**spec.identity(), **tables}, spec, gains)
        for tables, gains in zip(placed.tables, placed.gains, strict=True)
    )
    _prove(models, states, found, one_sample(example), seed)
    return found


def states_of(models: Sequence[nn.Module]) -> list[dict[str, Tensor]]:
    """The state dicts of two models or more of one architecture, with finite weights; SpecMismatchError otherwise."""
    if len(models) < 2:
        raise SpecMismatchError(f"{len(models)} model given: matching needs two or more of one architecture")
    states = [dict(model.state_dict()) for model in models]
    for number, state in enumerate(states):
        require_finite(state, f"model {number + 1}")
    for number, state in enumerate(states[1:], 2):
        try:
            require_pair(states[0], state)
        except SpecMismatchError as error:
            raise SpecMismatchError(f"models 1 (A) and {number} (B): {error}") from error
    return states


def _reads_once(data: Iterable[Any]) -> bool:
    """Whether a second reading would go on where the first is, as that of a generator does."""
    return not isinstance(data, Sized) and iter(data) is iter(data)


def _first(batches: Iterable[Any]) -> Batch:
    for item in batches:
        return as_batch(item)
    raise CalibrationError("the calibration data is empty: give at least one batch")


def _pairs(
    models: Sequence[nn.Module], states: Sequence[Mapping[str, Tensor]], example: Batch
) -> dict[tuple[int, int], Pair]:
    """Every two models, once each has been seen to compute as the first; they share what was traced."""
    first = Pair(models[0], models[1], states[0], states[1])
    program = first.program(*example)
    for model in models[2:]:
        require_same(program, capture(model, *example))
    return {
        (a, b): Pair(models[a], models[b], states[a], states[b], first.programs)
        for a, b in combinations(range(len(models)), 2)
    }


def _prove(
    models: Sequence[nn.Module],
    states: Sequence[Mapping[str, Tensor]],
    found: Sequence[Placement],
    example: Batch,
    seed: int,
) -> None:
    """VerificationError unless each element, the identity aside, leaves the function of its model alone."""
    program = capture(models[0], *example)
    for number, (state, element) in enumerate(zip(states, found, strict=True)):
        if number:
            inputs = bind(program, *example)
            certificate = certify(program, element.spec, state, inputs, element=element, trials=1, seed=seed)
            if not certificate.ok:
                raise VerificationError(f"the match of model {number + 1} is refused: {certificate}; please report it")
