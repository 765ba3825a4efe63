"""Proof by computation: random elements of a group are applied to a model, and its function is compared."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.checkpoints.reading import require_finite
from permgraph.errors import SpecMismatchError, VerificationError
from permgraph.symmetry.layout import Index
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.spec import PermutationSpec
from permgraph.tracing.capture import Program, capture
from permgraph.tracing.run import Runner, bind

TOLERANCE = 1e-8  # of the largest output; float64 leaves about 1e-13 on a hundred layers


@dataclass(frozen=True)
class Certificate:
    """The outcome of a verification.

    Attributes:
        ok: whether every trial stayed within the tolerance.
        max_error: largest |f(πθ) - π_out f(θ)| over all outputs, relative to the largest |f(θ)| of that output.
        tolerance: the bound, in float64.
        failing: groups that change the function on their own, or all of them if only their combination does.
        trials: how many random parameters and elements were tried.
        seed: what they were drawn from.

    """

    ok: bool
    max_error: float
    tolerance: float
    failing: tuple[str, ...]
    trials: int
    seed: int

    def __str__(self) -> str:
        verdict = "the function is unchanged" if self.ok else f"the function changes: {', '.join(self.failing)}"
        trials = f"{self.trials} trial{'s' if self.trials != 1 else ''}"
        figures = f"max error {self.max_error:.1e}, tolerance {self.tolerance:.0e}, {trials} in float64"
        return f"{verdict} ({figures})"


def verify(
    model: nn.Module,
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
    Without `spec` the group with free outputs is derived, which contains the one with fixed outputs. When the whole
    fails, every group is tried alone.

    Raises:
        CaptureError: the model cannot be traced.
        SpecMismatchError: `spec` belongs to another model.
        CheckpointError: a weight is not finite.
        VerificationError: the inputs are on the meta device, or the model's outputs are not finite.

    """
    program = capture(model, args, kwargs)
    if spec is None:
        from permgraph.symmetry.derivation import Derivation

        spec = Derivation(program, "free", {}).spec
    state = model.state_dict()
    spec.check(state, "the model")
    require_finite(state, "the model")
    return certify(program, spec, state, bind(program, args, kwargs), trials=trials, seed=seed)


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
    if any(isinstance(x, Tensor) and x.is_meta for x in pytree.tree_leaves(dict(inputs))):
        raise VerificationError("verification computes: give it inputs on a real device, not on meta")
    if len(program.outputs) != len(spec.output_layouts):
        raise SpecMismatchError(
            f"the specification knows {len(spec.output_layouts)} outputs, this forward pass returns "
            f"{len(program.outputs)}: derive it for the inputs and methods that it is verified with"
        )
    trial = _Trial(program, spec, state, inputs)
    worst, failing = 0.0, dict[str, None]()
    for number in range(trials):
        chosen = Permutations(dict(element)) if element is not None else spec.sample(seed + number)
        error = trial.error(chosen, seed + number)
        worst = max(worst, error)
        if not error <= TOLERANCE:
            failing.update(dict.fromkeys(trial.failing(chosen, seed + number)))
    return Certificate(not failing, worst, TOLERANCE, tuple(failing), trials, seed)


@dataclass(frozen=True)
class _Trial:
    program: Program
    spec: PermutationSpec
    state: Mapping[str, Tensor]
    inputs: Mapping[str, Any]

    def error(self, element: Permutations, seed: int, expected: list[Any] | None = None) -> float:
        """The relative error of an element at the random parameters of a seed."""
        before = self.outputs(seed, None) if expected is None else expected
        after = self.outputs(seed, element)
        return max((_distance(x, y) for x, y in zip(self._moved(element, before), after, strict=True)), default=0.0)

    def failing(self, element: Permutations, seed: int) -> list[str]:
        """The groups that change the function alone; all of them if none does."""
        before = self.outputs(seed, None)
        alone = [
            name
            for name in element
            if not self.error(Permutations({**self.spec.identity(), name: element[name]}), seed, before) <= TOLERANCE
        ]
        return alone or list(element)

    def _moved(self, element: Permutations, outputs: list[Any]) -> list[Any]:
        return [
            layout.apply(element.tables, leaf) if layout is not None else leaf
            for leaf, (_, layout) in zip(outputs, self.spec.output_layouts, strict=True)
        ]

    def outputs(self, seed: int, element: Permutations | None) -> list[Any]:
        """Output leaves at the random parameters of a seed, moved by an element."""

        def parameters(name: str) -> Tensor:
            tensor = generic(name, self.state[name], seed)
            return tensor if element is None else self.spec.apply_one(element.tables, name, tensor)

        with torch.random.fork_rng():
            torch.manual_seed(seed)  # a model that draws masks draws the same before and after
            found = Runner(self.program, parameters, torch.float64).outputs(self.inputs)
        for leaf, (name, _) in zip(found, self.spec.output_layouts, strict=True):
            if isinstance(leaf, Tensor) and leaf.numel() and not torch.isfinite(leaf).any():
                raise VerificationError(f"the output {name} is not finite anywhere: check the example inputs")
        return found


def _distance(expected: Any, found: Any) -> float:
    """Largest difference over largest magnitude, over the elements that are finite on both sides alike."""
    if not isinstance(expected, Tensor):
        return 0.0 if expected == found else float("inf")
    a, b = expected.to(torch.float64), found.to(torch.float64)
    finite = torch.isfinite(a)
    if not torch.equal(finite, torch.isfinite(b)):
        return float("inf")
    scale = a[finite].abs().max().item() if finite.any() else 0.0
    gap = (a[finite] - b[finite]).abs().max().item() if finite.any() else 0.0
    return gap / scale if scale else (0.0 if gap == 0 else float("inf"))


def generic(name: str, tensor: Tensor, seed: int) -> Tensor:
    """Parameters near `tensor` in float64 that no symmetry of an initialisation hides in: no zeros, no ones.

    To a matrix is added, at the scale 1.5 / sqrt(fan-in), the outer product of a normal vector for each dimension,
    which is as good as independent noise at telling units apart and far cheaper. A vector becomes normal around 0.5;
    one without entries below or at zero (a variance, a scale) stays positive.
    """
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + 7919 * seed)
    device = torch.device("cpu") if tensor.is_meta else tensor.device
    vectors = [torch.randn(size, generator=generator, dtype=torch.float64).to(device) for size in tensor.shape]
    if tensor.dim() > 1:
        noise = functools.reduce(lambda left, right: left.unsqueeze(-1) * right, vectors)
        noise *= 1.5 * max(prod(tensor.shape[1:]), 1) ** -0.5
        return noise if tensor.is_meta else noise.add_(tensor)
    positive = not tensor.is_meta and tensor.numel() > 0 and bool((tensor > 0).all())
    values: Tensor = 0.5 + 0.5 * (vectors[0] if vectors else torch.ones((), dtype=torch.float64, device=device))
    return values.abs() + 0.1 if positive else values
