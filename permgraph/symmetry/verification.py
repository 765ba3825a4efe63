"""Proof by computation: random elements of a group are applied to a model, and its function is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.checkpoints.json_files import shorten
from permgraph.checkpoints.reading import require_finite
from permgraph.errors import OptionError, SpecMismatchError, VerificationError
from permgraph.symmetry.agreement import TOLERANCE, Scales
from permgraph.symmetry.lengths import other_path, programs_at_other_lengths
from permgraph.symmetry.parts import Index
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.power import Power, PowerTest
from permgraph.symmetry.proof import Proof
from permgraph.symmetry.spec import PermutationSpec
from permgraph.symmetry.trials import NOISES, Trial, literals
from permgraph.tracing.capture import Program, capture
from permgraph.tracing.loaded import Inputs, Loaded, inputs_of, module_of
from permgraph.tracing.run import bind


@dataclass(frozen=True)
class Certificate:
    """The outcome of a verification; true if the function is unchanged.

    Attributes:
        ok: whether every trial stayed within the tolerance.
        max_error: largest |f(πθ) - π_out f(θ)| over all output elements, in units of the spread of f(θ) at that element
            over random parameters.
        tolerance: the bound, in float64.
        failing: groups that change the function on their own, or all of them if only their combination does.
        trials: how many random parameters were tried.
        seed: what they and the elements were drawn from.
        errors: the largest error of each output, by its place in what the model returns.
        inputs: the place in (args, kwargs) and the shape of each tensor that was put in.
        power: the share of wrong elements that the proof catches, each a group that moves at one of its tensors alone;
            None where there is no group to move, or the function changes. Some change nothing, as at the bias of keys.
        untested: the groups of which it catches none, and of which it says nothing.
        other_inputs: as `inputs`, for the trial at another length; () where the model takes no other.
        other_path: the first operation that is another one at that length; "" where there is none.

    """

    ok: bool
    max_error: float
    tolerance: float
    failing: tuple[str, ...]
    trials: int
    seed: int
    errors: Mapping[str, float] = field(default_factory=dict)
    inputs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    power: float | None = None
    untested: tuple[str, ...] = ()
    other_inputs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    other_path: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "the function is unchanged" if self.ok else f"the function changes: {', '.join(self.failing)}"
        trials = f"{self.trials} trial{'s' if self.trials != 1 else ''}"
        figures = f"max error {self.max_error:.1e}, tolerance {self.tolerance:.0e}, {trials} in float64"
        power = "" if self.power is None else f"; {self.power:.0%} of wrong elements are caught"
        untested = f", and none of {shorten(self.untested)}" if self.untested else ""
        shapes = list(dict.fromkeys(str(list(shape)) for _, shape in self.other_inputs))
        other = f"; also at inputs of {shorten(shapes)}" if shapes else ""
        path = f", with other operations from {self.other_path} on" if self.other_path else ""
        return f"{verdict} ({figures}{power}{untested}{other}{path})"


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

    Weights, norm scales and running statistics are drawn anew for every trial, so that a wrong group cannot hide
    behind a bias of zero or uniform attention. The model is not copied: parameters are made and permuted one by one.
    Every element of every output is compared at its own scale, and every group is moved.
    Without `spec` the group with free outputs is derived, which contains the one with fixed outputs. When the whole
    fails, every group is tried alone. Where the model takes inputs that are a quarter longer, or half as long, one
    trial is made with them. What `load` returned is a model with inputs of its own.

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
        from permgraph.symmetry.derivation import Derivation

        spec = Derivation(program, "free", {}).spec
    state = module.state_dict()
    spec.check(state, "the model")
    require_finite(state, "the model")
    found = certify(program, spec, state, bind(program, *example), trials=trials, seed=seed)
    return at_another_length(found, module, example, program, spec, state) if found else found


def at_another_length(
    found: Certificate,
    model: nn.Module,
    example: Inputs,
    program: Program,
    spec: PermutationSpec,
    state: Mapping[str, Tensor],
    element: Mapping[str, Index] | None = None,
) -> Certificate:
    """A certificate with one trial at the first other length at which the model can be traced and computed."""
    elements = [Permutations(dict(element))] if element is not None else spec.moving(found.seed, 1)
    for other, inputs in programs_at_other_lengths(model, example):
        if len(other.outputs) != len(spec.output_layouts):
            continue
        trial = Trial(other, spec, state, bind(other, *inputs))
        proof = Proof(trial, elements, range(found.seed, found.seed + 1), Scales(literals(other)))
        try:
            errors, failing = proof.outcome()
        except (VerificationError, SpecMismatchError):
            continue
        return replace(
            found,
            ok=not failing,
            failing=failing,
            max_error=max([found.max_error, *errors]),
            errors={name: max(found.errors[name], error) for name, error in zip(found.errors, errors, strict=True)},
            other_inputs=other.inputs,
            other_path=other_path(program, other),
        )
    return found


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
    """`verify` for a program that is captured already; with `element`, that one instead of random ones."""
    if trials < 1:
        raise OptionError(f"trials, the number of random parameters to try, must be at least 1, not {trials}")
    if any(isinstance(x, Tensor) and x.is_meta for x in pytree.tree_leaves(dict(inputs))):
        raise VerificationError("verification computes: give it inputs on a real device, not on meta")
    if len(program.outputs) != len(spec.output_layouts):
        raise SpecMismatchError(
            f"the specification knows {len(spec.output_layouts)} outputs, this forward pass returns "
            f"{len(program.outputs)}: derive it for the inputs and methods that it is verified with"
        )
    elements = spec.moving(seed, trials) if element is None else [Permutations(dict(element))] * trials
    seeds = range(seed, seed + trials)
    errors, failing, power = _proved(Trial(program, spec, state, inputs), elements, seeds)
    return Certificate(
        not failing,
        max(errors, default=0.0),
        TOLERANCE,
        failing,
        trials,
        seed,
        errors=dict(zip(program.outputs, errors, strict=True)),
        inputs=program.inputs,
        power=power.share,
        untested=power.untested,
    )


def _proved(trial: Trial, elements: Sequence[Permutations], seeds: range) -> tuple[list[float], tuple[str, ...], Power]:
    """The errors of the outputs, the groups behind those above the tolerance, and what else would have been caught.

    Where some group would not, the proof is made again at other parameters, as far as they can be computed with.
    """
    errors = [0.0] * len(trial.spec.output_layouts)
    power = Power()
    for noise in NOISES:
        scales = Scales(literals(trial.program))
        proof = Proof(replace(trial, noise=noise), elements, seeds if noise == NOISES[0] else seeds[:1], scales)
        try:
            found, failing = proof.outcome()
        except VerificationError:
            if noise == NOISES[0]:
                raise
            break
        errors = list(map(max, errors, found))
        if failing:
            return errors, failing, Power()
        power = PowerTest(proof.trial, elements, seeds.start, scales).power(power.caught)
        if not power.untested:
            break
    return errors, (), power
