"""Matches models: chooses method and groups, calls one matcher, and proves every element that it returns."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from permgraph.checkpoints.lazy_state import like
from permgraph.comparing.batches import Batch, Batches, Progress
from permgraph.comparing.masks import require_unmoved_masks
from permgraph.comparing.models import Models
from permgraph.errors import CalibrationError, OptionError, PermgraphWarning, VerificationError
from permgraph.matching import methods as _methods  # noqa: F401 - registers the matchers of this package
from permgraph.matching.groups import require_shapes, select
from permgraph.matching.match import Match, Matcher, Task, matcher
from permgraph.plugins import Registered
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.verification import Certificate
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.inputs import as_args
from permgraph.tracing.results import hidden_beside_logits
from permgraph.tracing.run import one_sample
from permgraph.wording import few


@dataclass(frozen=True, eq=False)
class Matched:
    """Models, the element that moves each of them, and the proofs.

    Attributes:
        models: the models, with norms folded where the kinds ask for it.
        spec: their group.
        method: the name of the matcher.
        matches: what it returned, one for each model.
        elements: the same as elements of the whole group.
        certificates: the proofs; None for the reference, which does not move.
        untied: names of weights that were untied so that norms could be folded.

    """

    models: Models
    spec: PermutationSpec
    method: str
    matches: tuple[Match, ...]
    elements: tuple[Permutations, ...]
    certificates: tuple[Certificate | None, ...]
    untied: tuple[str, ...] = ()

    def proved(self, example: Batch, seed: int) -> Matched:
        """The same with a certificate for each moved model. Raises VerificationError if a function changes."""
        certificates: list[Certificate | None] = [None]
        for number, element in enumerate(self.elements[1:], 1):
            certificate = self.models.certificate(number, self.spec, element, example, seed)
            if not certificate.ok:
                raise VerificationError(
                    f"the alignment of {self.models.name(number)} is refused: {certificate}; exclude those groups with "
                    "groups=, and please report this model"
                )
            certificates.append(certificate)
        return replace(self, certificates=tuple(certificates))


def match_models(
    models: Models,
    data: Iterable[Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    spec: PermutationSpec | None = None,
    method: str | None = None,
    groups: Sequence[str] | str | None = None,
    outputs: str = "fixed",
    kinds: str = "permutation",
    seed: int = 0,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
    proved: bool = True,
) -> Matched:
    """The common part of `align` and `match_many`, with their arguments and errors. `options` are those of the method.

    With `proved=False`, the caller improves the elements and proves the result itself.
    """
    given = (as_args(args), dict(kwargs or {}))
    given = given if any(given) else models.example
    chosen, own = choose(method, data, options or {})
    batches = None if data is None else Batches.of(data)
    example = given if batches is None else batches.first
    models.program(example)  # refuses models that compute differently before any work
    kinds = kinds if spec is None else spec.kinds
    untied = tuple[str, ...]()
    if kinds == "all":
        models, untied = models.folded(example)
    if spec is None:
        if outputs == "fixed" and groups is None:
            _warn_of_streams(models, example)
        spec = models.derivation(example, outputs, kinds).spec
    else:
        require_shapes(spec, {name: tuple(tensor.shape) for name, tensor in like(models.states[0]).items()})
    require_unmoved_masks(models.masks, spec, models.states[0])
    task = Task(models, spec, tuple(select(spec, groups)), example, batches, seed, progress)
    matches = tuple(chosen.function(task, **own))
    elements = tuple(Permutations({**spec.identity(), **match.element}) for match in matches)
    matched = Matched(models, spec, chosen.name, matches, elements, (None,) * len(models), untied)
    return matched.proved(one_sample(given if any(given) else example), seed) if proved else matched


def _warn_of_streams(models: Models, example: Batch) -> None:
    """Warn of hidden states that a model returns beside its logits: held fixed, they hold the residual streams."""
    if names := hidden_beside_logits(models.program(example).outputs):
        warnings.warn(
            f"{type(models.modules[0]).__name__} also returns {few(names)}: held fixed as all that a model returns, so "
            "that a residual stream does not move, and a merge may be poor. If the results of the head alone count, "
            "give pg.returning(model) in place of each model",
            PermgraphWarning,
            stacklevel=4,
        )


def choose(method: str | None, data: object, options: Mapping[str, Any]) -> tuple[Registered[Matcher], dict[str, Any]]:
    """The matcher (by default correlation with data, weights without), and its options that are not None.

    Raises OptionError for an unknown name or option, CalibrationError if data is needed and there is none.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("mix") is not None and method in (None, "weights", "correlation", "mix"):
        method = _method_of_mix(method, given)
    method = method or ("weights" if data is None else "correlation")
    chosen = find_matcher(method)
    chosen.require_options(given)
    if chosen.needs_data and data is None:
        raise CalibrationError(
            f'method "{method}" compares activations: give it calibration data, or, if there is none, '
            "permgraph.synthetic([a, b])"
        )
    return chosen, given


def find_matcher(name: str) -> Registered[Matcher]:
    """The matcher of this name. Raises OptionError for any other."""
    found = matcher.find(name)
    if found is None:
        raise OptionError(f"method is one of {', '.join(matcher.names())}, not {name!r}")
    return found


def _method_of_mix(method: str | None, options: dict[str, Any]) -> str:
    """The method that `mix` means: at 0 and 1 it is weights or correlation alone."""
    mix = options["mix"]
    if not 0 <= mix <= 1:
        raise OptionError(f"mix is the share of activations, from 0 (weights alone) to 1 (correlation), not {mix}")
    if method not in (None, "mix"):
        raise OptionError(f"give method {method!r} or mix {mix}, not both: a mix of 0 is weights, one of 1 correlation")
    if mix in (0, 1):
        del options["mix"]
        return "correlation" if mix else "weights"
    return "mix"
