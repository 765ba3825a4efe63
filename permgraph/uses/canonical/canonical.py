"""The canonical form of a model: the same state dict for every member of its orbit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.checkpoints.reading import require_finite
from permgraph.comparing.masks import finite, require_unmoved_masks
from permgraph.errors import OptionError, VerificationError
from permgraph.symmetry.derivation.affine import uniform_among
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.proof.trials import FAILURES, not_in_float64
from permgraph.symmetry.specification.fits import require_held
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.capture import capture
from permgraph.tracing.loaded import Loaded, inputs_of, module_of, tie_of
from permgraph.tracing.program import Program
from permgraph.tracing.run import Runner, bind
from permgraph.uses.canonical.form import endless, form, rounding

SAME = 1e-6
"""The form may change outputs by this share of their largest value."""


class Canonical(dict[str, Tensor]):
    """A state dict in canonical form.

    Attributes:
        spec: the group whose orbit it represents.
        ties: group -> which of its units, directions or signs nothing distinguishes.
        unique: whether the form is the only one of its orbit: all ties are between units that can be exchanged without
            any change, such as two equal or two dead units. If false, tied units keep their order in the given weights.

    """

    def __init__(
        self, state: Mapping[str, Tensor], spec: PermutationSpec, ties: Mapping[str, str], *, unique: bool
    ) -> None:
        super().__init__(state)
        self.spec = spec
        self.ties = dict(ties)
        self.unique = unique

    def __repr__(self) -> str:
        of = "the only form of its orbit" if self.unique else f"ties in {len(self.ties)} groups"
        return f"Canonical({len(self)} tensors, {of})"


@typed
def canonical(
    model: nn.Module | Loaded | Mapping[str, Tensor],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    spec: PermutationSpec | None = None,
) -> Canonical:
    """canonical(gθ) = canonical(θ) for every g of the group, with f(canonical(θ)) = f(θ).

    Scales and invertible maps are fixed by the smallest norm, rotations by the eigenvectors of a Gram matrix, signs by
    the sign of a sum, and the order of units by numbers that do not depend on any order. The forms are equal bit for
    bit, as hashes need it, if g only permutes, or if all kinds are permutations and signs. For other g they are equal
    up to the rounding of float64 and of stored weights.

    Args:
        model: in eval mode; it is not changed. What `load` returned; or a state dict, with a `spec`.
        args: example inputs, as for `derive`, at which the function is compared.
        kwargs: example keyword inputs.
        spec: the group, by default that of all kinds with fixed outputs, `derive(model, args, kinds="all")`, which
            undoes scales, rotations, permutations and signs. Folding norms is not in this group: fold both models
            first.

    Returns:
        A state dict in the dtypes of the model, with the group (`spec`), `ties` and `unique`.

    Raises:
        CaptureError: the model cannot be traced.
        SpecMismatchError: `spec` belongs to another model.
        NonFiniteError: a weight is not finite.
        OptionError: a state dict is given without a `spec`, or one in which outputs are scaled or mixed.
        VerificationError: the function would change, since the model is not continuous where a unit's weights are 0.

    """
    if isinstance(model, Mapping):
        if spec is None:
            raise OptionError("a state dict alone does not say what its symmetries are: give its spec, or the model")
        return _canonical(model, spec)
    module, example = module_of(model), inputs_of(model, args, kwargs)
    if spec is not None and not any(example):
        return _canonical(module.state_dict(), spec)
    program = capture(module, *example)
    if spec is None:
        uniform = uniform_among(program, [dict(module.named_parameters())])
        spec = Derivation(program, "fixed", tie_of(model), "all", uniform).spec
    state = module.state_dict()
    found = _canonical(state, spec)
    if spec.outputs == "fixed":
        _require_same(program, bind(program, *example), state, found)
    return found


def _canonical(state: Mapping[str, Tensor], spec: PermutationSpec) -> Canonical:
    spec.check(state)
    require_held(spec, state)
    masks = require_finite(state, "the model")
    require_unmoved_masks(masks, spec, state)
    _require_bounded(spec)
    aliases = spec.ties.aliases
    found = form(spec, finite(state, masks))
    for name in found.state.keys() & set(masks):
        found.state[name] = state[name].where(state[name].isinf(), found.state[name].to(state[name].dtype))
    stored: dict[str, Any] = dict(state) | {name: tensor.to(state[name].dtype) for name, tensor in found.state.items()}
    form_of = {name: stored[aliases.get(name, name)] for name in state}
    return Canonical(form_of, spec, found.ties.found, unique=found.ties.unique)


def _require_bounded(spec: PermutationSpec) -> None:
    if found := endless(spec):
        raise OptionError(
            f"{', '.join(found)}: with scales or maps of free outputs there is no canonical form; derive the "
            'specification with outputs="fixed", or of kinds "permutation" or "signed"'
        )


def _require_same(
    program: Program, inputs: Mapping[str, Any], state: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> None:
    """The outputs at the example inputs, in float64."""
    if any(isinstance(x, Tensor) and x.is_meta for x in inputs.values()):
        return
    bound = max(SAME, 1000 * rounding(state))
    before, after = (_outputs(program, inputs, of) for of in (state, found))
    for place, a, b in zip(program.outputs, before, after, strict=True):
        if isinstance(a, Tensor) and not _is_same(a, b, bound):
            raise VerificationError(
                f"{place}: the canonical form would compute something else here, since the model is not continuous "
                'where the weights of a unit are 0; give a spec of kinds "permutation" or "signed"'
            )


def _outputs(program: Program, inputs: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[Any]:
    runner = Runner(program, state.__getitem__, torch.float64)
    try:
        return runner.outputs(inputs)
    except FAILURES as error:
        raise not_in_float64(runner, error) from error


def _is_same(a: Tensor, b: Tensor, bound: float) -> bool:
    """Whether no element differs by more than this share of the largest finite one."""
    if not a.is_floating_point():
        return bool(torch.equal(a, b))
    largest = a.abs().where(a.isfinite(), 0).amax() if a.numel() else 0.0
    return bool(((a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= bound * largest)).all())
