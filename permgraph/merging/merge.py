"""Merges two models of one architecture, B moved to A first where an alignment is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.errors import CalibrationError, OptionError
from permgraph.matching.alignment import Alignment, require_pair
from permgraph.matching.correlation import Pair, Progress
from permgraph.merging import CORRECTIONS, LAYER_METHODS, METHODS, MergeFunction
from permgraph.merging.calibration import Calibration
from permgraph.merging.least_squares import merge_layers
from permgraph.merging.registry import Share
from permgraph.merging.shares import Weight, shares_of
from permgraph.symmetry.spec import PermutationSpec


@dataclass(frozen=True)
class Recipe:
    """A merge and the corrections that follow it."""

    first: str
    corrections: tuple[str, ...]

    @property
    def needs_data(self) -> bool:
        """Whether calibration data is needed."""
        return self.first in LAYER_METHODS or bool(self.corrections)


def recipe(method: str) -> Recipe:
    """`method` read as a merge and corrections joined by "+"; "repair" alone is "linear+repair".

    Raises OptionError for a name that is not known, or one that is not in its place.
    """
    first, *rest = method.split("+")
    if first in CORRECTIONS:
        first, rest = "linear", [first, *rest]
    if first not in (*METHODS, *LAYER_METHODS) or any(name not in CORRECTIONS for name in rest):
        raise OptionError(
            f"method is one of {', '.join((*METHODS, *LAYER_METHODS))}, with +{' or +'.join(CORRECTIONS)} after it "
            f"as wanted, not {method!r}"
        )
    return Recipe(first, tuple(rest))


def merge(
    model_a: nn.Module,
    model_b: nn.Module,
    *,
    alignment: Alignment | None = None,
    weight: Weight = 0.5,
    method: str = "linear",
    data: Iterable[Any] | None = None,
    spec: PermutationSpec | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """A new state dict between A and B', B moved by `alignment`; None merges B as it stands.

    Args:
        model_a: the reference; neither model is changed.
        model_b: the other one.
        alignment: how B is moved.
        weight: A's share: 1 is A, 0 is B'. A mapping from groups or roles to shares, "default" for the rest; or
            "correlation", from how well each group matched (`correlation_shares`). See `Shares` for which share a
            tensor takes.
        method: "linear" or "slerp"; "regmean" or "pleas" for the linear and convolution layers, by least squares;
            followed, as wanted, by "+repair" or "+batch_norm". "repair" alone is "linear+repair".
        data: calibration batches, as for `align`, for every method but "linear" and "slerp". Read more than once.
        spec: the groups that a mapping names, where there is no alignment.
        progress: called as progress(stage, done, total).

    Computed in float32 or wider, and returned in A's dtypes; what is not floating point (counters, index tables) is
    A's. Tied weights stay tied.

    Raises:
        SpecMismatchError: the models are not of one architecture, or `weight` names no group.
        CheckpointError: a weight is not finite.
        CalibrationError: a method needs data and there is none, or it is empty or not finite.
        OptionError: an unknown method, or a weight outside [0, 1].

    """
    steps, shares = recipe(method), shares_of(weight, alignment, spec)
    if steps.needs_data and data is None:
        raise CalibrationError(f'method "{method}" compares activations: give it calibration data')
    state_a, state_b = model_a.state_dict(keep_vars=True), model_b.state_dict(keep_vars=True)
    require_pair(state_a, state_b)
    aliases: dict[str, str] = {}
    known = {id(tensor): name for name, tensor in reversed(state_a.items())}
    result: dict[str, Tensor] = {}
    tensors = METHODS.get(steps.first, METHODS["linear"]).merge
    for name, a in state_a.items():
        aliases[name] = first = known[id(a)]
        if first == name:
            b = state_b[name] if alignment is None else alignment.moved(name)
            result[name] = _merged(tensors, a.detach(), b.detach().to(a.device), shares.of(name))
    if steps.needs_data:
        assert data is not None
        batches = list(data) if isinstance(data, Iterator) else data
        moved = dict(state_b) if alignment is None else alignment.state_dict
        calibration = Calibration(Pair(model_a, model_b, state_a, moved), batches, progress)
        if steps.first in LAYER_METHODS:
            result |= merge_layers(LAYER_METHODS[steps.first].merge, calibration, shares)
        for name in steps.corrections:
            result |= CORRECTIONS[name].merge(calibration, result, shares)
    return {name: result[first] for name, first in aliases.items()}


def _merged(method: MergeFunction, a: Tensor, b: Tensor, share: Share) -> Tensor:
    if not a.is_floating_point():
        return a.clone()
    wide = torch.promote_types(a.dtype, torch.float32)
    share = share.to(a.device, wide) if isinstance(share, Tensor) else share
    return method(a.to(wide), b.to(wide), share).to(a.dtype)
