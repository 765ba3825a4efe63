"""Merges two models of one architecture, B moved to A first where an alignment is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.comparing.batches import Batches, Progress
from permgraph.comparing.calibration import Calibration
from permgraph.comparing.models import Models
from permgraph.errors import CalibrationError, OptionError
from permgraph.matching.align import Alignment
from permgraph.merging import CORRECTIONS, LAYER_METHODS, METHODS, MergeFunction
from permgraph.merging.least_squares import merge_layers
from permgraph.merging.registry import Share
from permgraph.merging.shares import Shares, Weight, shares_of
from permgraph.symmetry.spec import PermutationSpec, memory_of


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
            followed, as wanted, by "+repair", "+batch_norm" or "+refit". "repair" alone is "linear+repair".
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
    return Merges(model_a, model_b, alignment, data, spec, progress).at(weight, method)


class Merges:
    """All merges of two models: what does not depend on share and method is done once.

    The arguments are those of `merge`, and so are the errors.
    """

    def __init__(
        self,
        model_a: nn.Module,
        model_b: nn.Module,
        alignment: Alignment | None = None,
        data: Iterable[Any] | None = None,
        spec: PermutationSpec | None = None,
        progress: Progress | None = None,
    ) -> None:
        models = Models.of((model_a, model_b))
        self.models = models if alignment is None else models.sharing(alignment.models)
        self.alignment, self.spec, self.progress = alignment, spec, progress
        self.data = data

    @cached_property
    def calibration(self) -> Calibration:
        """Both models on the data, B moved."""
        if self.data is None:
            raise CalibrationError("this method compares activations: give it calibration data")
        a, b = self.models.states
        moved = b if self.alignment is None else self.alignment.state_dict
        return Calibration(self.models.with_states(a, moved), Batches.of(self.data), self.progress)

    def at(self, weight: Weight, method: str = "linear") -> dict[str, Tensor]:
        """The merge with this share of A by this method, a new state dict."""
        steps, shares = recipe(method), shares_of(weight, self.alignment, self.spec)
        if steps.needs_data:
            self.calibration.program  # noqa: B018 - what is wrong with the data is said before the work
        state = self.models.states[0]
        first = {memory_of(tensor): name for name, tensor in reversed(list(state.items()))}
        result = {name: self._tensor(name, steps.first, shares) for name in reversed(first.values())}
        if steps.first in LAYER_METHODS:
            result |= merge_layers(LAYER_METHODS[steps.first].merge, self.calibration, shares)
        for name in steps.corrections:
            result |= CORRECTIONS[name].merge(self.calibration, result, shares)
        return {name: result[first[memory_of(tensor)]] for name, tensor in state.items()}

    def _tensor(self, name: str, method: str, shares: Shares) -> Tensor:
        a, b = (state[name] for state in self.models.states)
        if self.alignment is not None:
            b = self.alignment.moved(name)
        return _merged(METHODS.get(method, METHODS["linear"]).merge, a, b.to(a.device), shares.of(name))


def _merged(method: MergeFunction, a: Tensor, b: Tensor, share: Share) -> Tensor:
    if not a.is_floating_point():
        return a.clone()
    wide = torch.promote_types(a.dtype, torch.float32)
    share = share.to(a.device, wide) if isinstance(share, Tensor) else share
    return method(a.to(wide), b.to(wide), share).to(a.dtype)
