"""The whole of B, with a head of its own, moved as the base model in it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from permgraph.checkpoints.lazy_state import small_part
from permgraph.checkpoints.writing import SecondHead
from permgraph.errors import OptionError, VerificationError
from permgraph.jobs.aligned import Aligned
from permgraph.jobs.session import Session
from permgraph.matching.alignment import is_in_out
from permgraph.models.heads import head_names, moved_by, on_the_whole, with_part
from permgraph.models.loaded import LoadedModel
from permgraph.symmetry.derivation.affine import uniform_among
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.verification import Certificate, certify
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.capture import capture
from permgraph.tracing.program import Program
from permgraph.tracing.run import bind
from permgraph.uses.carrying import carried as move_along


def with_second_head(session: Session, aligned: Aligned) -> Aligned:
    """The alignment with B's head, moved as its base model is, to be written too. Raises what `carried` does."""
    whole, state = carried(session, aligned)
    b = aligned.models[1]
    tensors = {name: state[name] for name in head_names(b, aligned.b)}
    proved = replace(aligned.alignment, certificate=whole.alignment.certificate)
    return replace(aligned, alignment=proved, second=SecondHead(tensors, b.config, b.architecture))


def carried(session: Session, aligned: Aligned) -> tuple[Aligned, Mapping[str, Tensor]]:
    """The whole of B, with its own head, moved as its base model was if only base models were matched.

    If norms of the base model were folded, those of the whole are folded in the same way, which leaves the results of
    the base model alone, and so its head. Raises VerificationError if moving would change B's function.
    """
    b, found = aligned.models[1], aligned.alignment
    if found.spec.kinds != "permutation" and (aligned.borders or found.untied or b.lazy is not None):
        raise OptionError(
            "B's own head moves by permutations alone if vocabularies, channels or positions differ, if a weight is no "
            "longer tied, or within a limit on memory: omit --kinds, or give --heads first"
        )
    folds = found.models.folds
    weights = with_part(b, found.models.states[1]) if folds else b.weights
    program = capture(b.model, b.args, b.kwargs)
    spec = _derived(program, b, weights, found.spec.kinds)
    element = on_the_whole(b, spec, found.spec, found.permutations)
    certificate = prove(spec, b, element, session.seed, program, weights)
    if not certificate.ok:
        raise VerificationError(f"the head of B cannot move along: {certificate}; align the base models instead")
    done = replace(found, certificate=certificate)
    state = spec.applied(element, weights)
    if aligned.borders and b.given is not None:
        state = aligned.borders.own(b.given.weights, state, [(spec, element)])
    stored = partial(is_in_out, b.model, given=None)
    heads = replace(aligned.heads, carried=moved_by(spec, element))
    apply = _refused if folds else partial(move_along, [(spec, element)], what="weights", is_transposed=stored)
    return replace(aligned, alignment=done, heads=heads, apply=apply), state


def prove(
    spec: PermutationSpec,
    model: LoadedModel,
    element: Permutations,
    seed: int,
    program: Program | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Certificate:
    """The certificate that this element leaves the function of `model` unchanged, or that it does not."""
    program = program or capture(model.model, model.args, model.kwargs)
    state = small_part(model.weights if weights is None else weights)
    inputs = bind(program, model.args, model.kwargs)
    return certify(program, spec, state, inputs, element=element, trials=1, seed=seed)


def _derived(program: Program, b: LoadedModel, weights: Mapping[str, Tensor], kinds: str) -> PermutationSpec:
    uniform = uniform_among(program, [weights]) if kinds == "all" else ()
    return Derivation(program, b.outputs, b.tie, kinds, uniform).spec


def _refused(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Raise OptionError: what was folded in a base model has the names of the base model."""
    raise OptionError(
        "adapters move with a head of B's own by permutations and signs alone: omit --kinds all, or align the base "
        "models"
    )
