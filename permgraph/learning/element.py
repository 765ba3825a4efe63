"""Learns the element of a symmetry group under which the way between two models is flat; B's function is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import LazyState
from permgraph.comparing.batches import Batch
from permgraph.comparing.calibration import Calibration
from permgraph.learning.between import Between
from permgraph.learning.coordinates import Coordinates
from permgraph.learning.descent import Descent, descend
from permgraph.learning.objective import Loss
from permgraph.learning.placing import Placed
from permgraph.learning.recomputed import Recomputed
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations, checked
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.program import Program
from permgraph.tracing.run import off_meta

SHARES = 0.4, 0.6
"""Between which shares of A the merge is learned to do well."""
BETAS = 0.8, 0.9
"""Adam's: with a shorter memory than usual the same loss is reached in about half the steps."""
RATE, ENOUGH = 2e-2, 128
"""Adam's rate on batches with so many outputs; less in proportion on smaller ones, whose gradients vary more."""


@dataclass(frozen=True)
class Learned:
    """An element of a symmetry group in float64, and how it was learned; None where nothing can be."""

    permutations: Permutations
    descent: Descent | None


@torch.inference_mode(False)
def learn(
    calibration: Calibration,
    spec: PermutationSpec,
    start: Mapping[str, Any],
    *,
    groups: Sequence[PermutationGroup] | None = None,
    steps: int = 400,
    rate: float | None = None,
    seed: int = 0,
    loss: Loss = None,
) -> Learned:
    """The element π near `start` of least loss of λ A + (1 - λ) π B, λ uniform in SHARES.

    π = δ start with δ in the identity component: rotations, invertible maps and scales are learned, permutations and
    signs are those of the start. Nothing is gained by moving A as well: elements act linearly on weights, so that
    λ g A + (1 - λ) g π B = g (λ A + (1 - λ) π B), which computes the same for every g. The loss is that of `Objective`,
    and needs no labels; the descent is `descend`'s. Deterministic by `seed`. Memory: B moved, B under δ and the merge,
    in float32 or wider, in addition to both models. Weights that are read on demand are read again in the backward
    pass, and in memory are a few of them at a time.

    Args:
        calibration: the models A and B, and batches.
        spec: their group.
        start: the element to begin with; from the identity, unrelated models find nothing.
        groups: the groups to learn; all by default.
        steps: how many batches are learned from, each once a pass.
        rate: Adam's; by default RATE for batches of ENOUGH outputs or more, and less in proportion for smaller ones. A
            text has an output for each token.
        seed: of the order of the batches and of λ.
        loss: see `Loss`.

    Raises:
        OptionError: `steps`, `rate` or `loss` is not what it can be.
        CalibrationError: the data ends too early, or the loss is not finite.

    """
    program, (state_a, state_b) = calibration.program, calibration.states
    coordinates = Coordinates(groups or spec.groups, off_meta(program.device), torch.float32)
    tables = checked(spec.groups, start)
    state, on_demand = _moved(spec, tables, state_b, program), isinstance(state_b, LazyState)
    between, placed = Between(calibration, (state_a, state), loss), Placed(spec, state, coordinates.groups)
    if not coordinates.tensors:
        return Learned(Permutations(tables), None)

    def value(batch: Batch, u: float) -> Tensor:
        element, share = coordinates.element(), SHARES[0] + (SHARES[1] - SHARES[0]) * u
        weights = Recomputed(lambda name: mixed(state_a[name], placed(element, name), share))
        with weights.saving() if on_demand else nullcontext():
            return between(
                weights if on_demand else weights.weight, batch, lambda outputs: moved_outputs(spec, element, outputs)
            )

    found = descend(
        value,
        coordinates.tensors,
        calibration,
        "learning",
        size=between.size,
        steps=steps,
        rate=RATE * min(1, between.size / ENOUGH) if rate is None else rate,
        seed=seed,
        betas=BETAS,
        paces=coordinates.paces,
    )
    delta = {**spec.identity(), **coordinates.exact(found.x)}
    return Learned(spec.compose(delta, tables), found)


def _moved(
    spec: PermutationSpec, tables: Mapping[str, Any], state: Mapping[str, Tensor], program: Program
) -> Mapping[str, Tensor]:
    """The tensors that a program reads, moved; on demand where they are read so."""
    if isinstance(state, LazyState):
        return spec.on_demand(tables, state)
    return {name: spec.apply_one(tables, name, state[name]) for name in dict.fromkeys(program.names.values())}


def halfway_loss(
    calibration: Calibration, spec: PermutationSpec, element: Mapping[str, Any], batches: Iterable[Batch], loss: Loss
) -> float:
    """The loss of ½ A + ½ π B for an element π, mean over batches."""
    state_a, state_b = calibration.states
    whole = {**spec.identity(), **element}
    moved = spec.applied(whole, state_b)
    between = Between(calibration, (state_a, moved), loss)
    with torch.no_grad():
        return fmean(float(between(lambda name: mixed(state_a[name], moved[name], 0.5), batch)) for batch in batches)


def mixed(a: Tensor, b: Tensor, share: float) -> Tensor:
    """share · a + (1 - share) · b in float32 or wider; `a` where it has whole numbers."""
    if not (a.is_floating_point() or a.is_complex()):
        return a
    wide = torch.promote_types(a.dtype, torch.float32)
    return torch.lerp(b.to(wide), a.detach().to(wide), share)


def moved_outputs(spec: PermutationSpec, element: Mapping[str, Any], outputs: Sequence[Any]) -> list[Any]:
    """Output leaves under an element that has parts for some groups alone."""
    whole = {**spec.identity(), **element}
    return [
        layout.apply(whole, leaf) if layout is not None and not element.keys().isdisjoint(layout.groups) else leaf
        for leaf, (_, layout) in zip(outputs, spec.output_layouts, strict=True)
    ]
