"""Two models or more moved into one space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from permgraph.arguments import typed
from permgraph.comparing.batches import Batches, Progress
from permgraph.comparing.models import Models, State
from permgraph.matching.borders import Borders
from permgraph.matching.fitting import example_of, fit
from permgraph.matching.gains import Gain
from permgraph.matching.pipeline import match_models
from permgraph.progress import with_bar
from permgraph.symmetry.derivation.folding import Foldable
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.verification import Certificate
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.loaded import Loaded


@dataclass(frozen=True, eq=False, repr=False)
class Placement(Permutations):
    """The element that moves one of several models into their common space.

    Attributes:
        spec: the group.
        gains: as in an `Alignment`, with the mean of all other moved models in place of A; none for the first model.
        certificate: the proof that the element leaves its model's function unchanged; None for the first model, which
            does not move.
        method: the name of the matcher.
        borders: axes at which its model differs from the first without being a head, as rows of tokens; what
            `merge_many` makes of them.
        foldable: with kinds="all", the norms that were folded in all models: the element moves its model folded, and
            `merge_many` folds the models that it is given.
        untied: names of tensors that a merge no longer ties, as in an `Alignment`.

    """

    spec: PermutationSpec = field(repr=False)
    gains: Mapping[str, Gain] = field(repr=False, default_factory=dict)
    certificate: Certificate | None = None
    method: str = ""
    borders: Borders = field(default_factory=Borders, repr=False)
    foldable: Foldable | None = field(default=None, repr=False)
    untied: tuple[str, ...] = ()


@typed
@with_bar
def match_many(
    models: Sequence[nn.Module | Loaded],
    data: Iterable[Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    spec: PermutationSpec | None = None,
    method: str | None = None,
    mix: float | None = None,
    point_weights: Mapping[str, Sequence[float]] | None = None,
    groups: Sequence[str] | str | None = None,
    outputs: str = "fixed",
    kinds: str = "permutation",
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Placement, ...]:
    """One element P_m for each model: `spec.apply(P_m, state_m)` moves all models into a common space.

    The map from b to a is P_ab = compose(invert(P_a), P_b), so every cycle closes by construction. The first model is
    the reference and its P the identity; this loses nothing, as moving all models by one element does not change the
    objective. Every moved model is proved to keep its function. Data is read once for every pair of models, and kept if
    it can be read only once; see `permgraph.matching.universe` for memory, and `align` for the arguments. With a mix,
    the correlations of all pairs are held at once. Each element has the `gains` and the `certificate` of its model.

    Returns:
        An element for each model, in their order; the first is the identity.

    Raises:
        SpecMismatchError: fewer than two models, models that differ in architecture, or `groups` that name nothing.
        NonFiniteError: a weight is not finite.
        CalibrationError: the data is empty, not finite, constant or too short.
        OptionError: `method`, `mix` or `point_weights` is not what it can be.
        VerificationError: an element would change its model's function; nothing is returned.

    """
    batches = None if data is None else Batches.of(data)
    fitted = fit(models, lambda: example_of(models[0], batches, args, kwargs))
    found = place_models(
        Models.of(fitted.models),
        batches,
        args=args,
        kwargs=kwargs,
        spec=spec,
        method=method,
        groups=groups,
        outputs=outputs,
        kinds=kinds,
        seed=seed,
        progress=progress,
        options={"mix": mix, "point_weights": point_weights} | options,
    )
    return with_borders(found, fitted.borders)


def with_borders(placements: Sequence[Placement], borders: Sequence[Borders]) -> tuple[Placement, ...]:
    """The same with the axes at which each model was fitted to the first; they must not move."""
    for own in borders:
        own.require_unmoved(placements[0].spec)
    return tuple(replace(one, borders=own) for one, own in zip(placements, borders, strict=True))


def place_models(models: Models, data: Iterable[Any] | None = None, **asked: Any) -> tuple[Placement, ...]:
    """`match_many` for models that are traced already; the arguments are those of `match_models`."""
    found = match_models(models, data, **asked)
    return tuple(
        Placement(
            element.tables,
            found.spec,
            match.gains,
            certificate,
            found.method,
            foldable=found.models.foldable,
            untied=found.untied,
        )
        for element, match, certificate in zip(found.elements, found.matches, found.certificates, strict=True)
    )


def foldable_of(permutations: Sequence[Mapping[str, Any]]) -> Foldable | None:
    """The norms that were folded where these were found; None if none were."""
    return next((one.foldable for one in permutations if isinstance(one, Placement)), None)


def as_matched(states: Sequence[State], permutations: Sequence[Mapping[str, Any]]) -> list[State]:
    """The weights of models as they were matched: with their norms folded where the kinds ask for it."""
    known = foldable_of(permutations)
    return list(states) if known is None else [fold.state_dict for fold in known.folded(states)]
