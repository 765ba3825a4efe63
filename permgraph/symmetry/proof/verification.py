"""Proof by computation: random elements of a group are applied to a model, and its function is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.arguments import typed
from permgraph.checkpoints.reading import require_finite
from permgraph.errors import OptionError, SpecMismatchError, VerificationError
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.elements.report import counted
from permgraph.symmetry.proof.agreement import TOLERANCE, Scales
from permgraph.symmetry.proof.lengths import other_path, programs_at_other_lengths
from permgraph.symmetry.proof.proof import Proof, Setting
from permgraph.symmetry.proof.proving import DRAWS, elsewhere, prove
from permgraph.symmetry.proof.trials import Trial, literals
from permgraph.symmetry.specification.fits import require_held
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.capture import capture
from permgraph.tracing.loaded import Inputs, Loaded, inputs_of, module_of
from permgraph.tracing.program import Program
from permgraph.tracing.run import bind
from permgraph.wording import few


@dataclass(frozen=True)
class Certificate:
    """The outcome of a verification; true if the function is unchanged.

    Attributes:
        ok: whether every trial stayed within the tolerance.
        max_error: largest |f(πθ) - π_out f(θ)| over all output elements, in units of the spread of f(θ) at that element
            over random parameters.
        tolerance: the bound, in float64.
        failing: groups that change the function on their own, or all of them if only their combination does.
        trials: how many random parameters were tried, the first with the given inputs.
        drawn: the places of the inputs that had other values in all trials but the first; () if the model could not be
            computed with other values.
        seed: of the parameters, the inputs and the elements.
        errors: the largest error of each output, by its place in what the model returns.
        inputs: the place in (args, kwargs) and the shape of each tensor that was put in.
        power: the share of wrong elements that the proof catches, each a group that moves in only one of its tensors;
            None if there is no group, or the function changes. Some of them change nothing, as at the bias of keys.
        untested: the groups of which no wrong element is caught; the proof says nothing about these.
        other_inputs: as `inputs`, for the trial at another length; () if the model takes no other.
        other_path: the first operation that differs at that length; "" if none does.

    """

    ok: bool
    max_error: float
    tolerance: float
    failing: tuple[str, ...]
    trials: int
    seed: int
    errors: Mapping[str, float] = field(default_factory=dict)
    inputs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    drawn: tuple[str, ...] = ()
    power: float | None = None
    untested: tuple[str, ...] = ()
    other_inputs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    other_path: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"Certificate({self})"

    def __str__(self) -> str:
        verdict = "the function is unchanged" if self.ok else f"the function changes: {', '.join(self.failing)}"
        trials = counted(self.trials, "trial")
        figures = f"max error {self.max_error:.1e}, tolerance {self.tolerance:.0e}, {trials} in float64"
        power = "" if self.power is None else f"; {self.power:.0%} of wrong elements are caught"
        untested = f", and none of {few(self.untested)}" if self.untested else ""
        shapes = list(dict.fromkeys(str(list(shape)) for _, shape in self.other_inputs))
        other = f"; also at inputs of {few(shapes)}" if shapes else ""
        path = f", with other operations from {self.other_path} on" if self.other_path else ""
        values = "" if self.drawn else "; at these values of the inputs alone"
        return f"{verdict} ({figures}{power}{untested}{other}{path}{values})"


@typed
def verify(
    model: nn.Module | Loaded,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    spec: PermutationSpec | None = None,
    trials: int = 3,
    seed: int = 0,
) -> Certificate:
    """Check f(πθ) = π_out f(θ) in float64 for random elements π and random, generic parameters θ.

    Weights, norm scales and running statistics are drawn anew for every trial, so that a bias of zero or uniform
    attention does not hide a wrong group. The model is not copied: parameters are made and permuted one by one. Every
    element of every output is compared at its own scale, and every group is moved. The first trial uses the given
    inputs; the others, at least one, use new values: real numbers and rows of tables, not masks. Without `spec` the
    group with free outputs is derived, which contains the one with fixed outputs. If the whole fails, every group is
    tried separately. If the model takes inputs that are a quarter longer, or half as long, one trial uses them.

    Args:
        model: in eval mode, on a real device; it is not changed. Or what `load` returned.
        args: example positional inputs.
        kwargs: example keyword inputs.
        spec: the group to prove; derived with free outputs by default.
        trials: how many random parameters are tried.
        seed: of everything random.

    Returns:
        The record of the proof; true as a truth value if every trial stayed within the tolerance.

    Raises:
        CaptureError: the model cannot be traced.
        SpecMismatchError: `spec` belongs to another model.
        NonFiniteError: a weight is not finite.
        VerificationError: the inputs are on the meta device, the model's outputs are not finite, or one of its
            operations cannot be computed in float64.
        OptionError: `trials` is below 1.

    """
    module, example = module_of(model), inputs_of(model, args, kwargs)
    program = capture(module, *example)
    if spec is None:
        from permgraph.symmetry.derivation.derive import Derivation

        spec = Derivation(program, "free", {}).spec
    state = module.state_dict()
    spec.check(state, "the model")
    require_held(spec, state)
    require_finite(state, "the model")
    certificate = certify(program, spec, state, bind(program, *example), trials=trials, seed=seed)
    return at_another_length(certificate, module, example, program, spec, state) if certificate else certificate


def at_another_length(
    certificate: Certificate,
    model: nn.Module,
    example: Inputs,
    program: Program,
    spec: PermutationSpec,
    state: Mapping[str, Tensor],
    element: Mapping[str, Index] | None = None,
) -> Certificate:
    """A certificate with one trial at the first other length at which the model can be traced and computed."""
    tried = [Permutations(dict(element))] if element is not None else spec.moving(certificate.seed, most=1)
    for longer, inputs in programs_at_other_lengths(model, example):
        if len(longer.outputs) != len(spec.output_layouts):
            continue
        try:
            errors, failing = _one_trial(Trial(longer, spec, state, bind(longer, *inputs)), tried, certificate.seed)
        except (VerificationError, SpecMismatchError):
            continue
        return replace(
            certificate,
            ok=not failing,
            failing=failing,
            max_error=max([certificate.max_error, *errors]),
            errors={
                name: max(certificate.errors[name], error)
                for name, error in zip(certificate.errors, errors, strict=True)
            },
            other_inputs=longer.inputs,
            other_path=other_path(program, longer),
        )
    return certificate


def _one_trial(trial: Trial, elements: Sequence[Permutations], seed: int) -> tuple[list[float], tuple[str, ...]]:
    """The outcome at other values of the inputs, or at those of the example if the model cannot compute others."""
    try:
        return _outcome(elsewhere(trial, seed), elements, seed)
    except VerificationError:
        return _outcome(trial, elements, seed)


def _outcome(trial: Trial, elements: Sequence[Permutations], seed: int) -> tuple[list[float], tuple[str, ...]]:
    settings = [Setting(trial, seed + k, elements if k == 0 else ()) for k in range(DRAWS)]
    return Proof(settings, Scales(literals(trial.program))).outcome()


def certify(
    program: Program,
    spec: PermutationSpec,
    state: Mapping[str, Tensor],
    inputs: Mapping[str, Any],
    *,
    element: Mapping[str, Index] | None = None,
    trials: int = 3,
    seed: int = 0,
) -> Certificate:
    """`verify` for a captured program; with `element`, that element instead of random ones."""
    if trials < 1:
        raise OptionError(f"trials, the number of random parameters to try, must be at least 1, not {trials}")
    if any(isinstance(x, Tensor) and x.is_meta for x in pytree.tree_leaves(dict(inputs))):
        raise VerificationError("verification computes: give it inputs on a real device, not on meta")
    if len(program.outputs) != len(spec.output_layouts):
        raise SpecMismatchError(
            f"the specification knows {len(spec.output_layouts)} outputs, this forward pass returns "
            f"{len(program.outputs)}: derive it for the inputs and methods that it is verified with"
        )
    require_held(spec, state, element)
    tried = Permutations(dict(element)) if element is not None else None
    proof = prove(Trial(program, spec, state, inputs), tried, trials, seed)
    return Certificate(
        not proof.failing,
        max(proof.errors, default=0.0),
        TOLERANCE,
        proof.failing,
        proof.trials,
        seed,
        errors=dict(zip(program.outputs, proof.errors, strict=True)),
        inputs=program.inputs,
        drawn=proof.drawn,
        power=proof.power.share,
        untested=proof.power.untested,
    )
