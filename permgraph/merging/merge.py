"""Merges two models of one architecture, B moved to A first where an alignment is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.checkpoints.lazy_state import LazyState, alone, each_once, memory_of, rows_of
from permgraph.comparing.batches import Batches, Progress
from permgraph.comparing.calibration import Calibration
from permgraph.comparing.models import Models
from permgraph.errors import CalibrationError, OptionError
from permgraph.matching.alignment import Alignment
from permgraph.merging.least_squares import merge_layers
from permgraph.merging.owners import Owners, with_base
from permgraph.merging.registry import correction, layer_method, merge_method
from permgraph.merging.shares import Shares, Weight, shares_of
from permgraph.merging.tensors import TensorMerge
from permgraph.progress import with_bar
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.loaded import Loaded, state_of


@dataclass(frozen=True)
class Steps:
    """A merge or layer method, and the corrections that follow it."""

    first: str
    corrections: tuple[str, ...]

    @property
    def needs_data(self) -> bool:
        """Whether calibration data is needed."""
        return self.first in layer_method or bool(self.corrections)

    @property
    def most(self) -> int | None:
        """How many models can be merged so; None for any number. Raises PluginError where the method cannot load."""
        if self.needs_data:
            return 2
        found = merge_method.find(self.first)
        return None if found is None else found.most


def steps_of(method: str) -> Steps:
    """`method` read as a merge and corrections joined by "+"; "repair" alone is "linear+repair".

    Raises OptionError for a name that is not known, or one that is not in its place.
    """
    first, *rest = method.split("+")
    if first in correction:
        first, rest = "linear", [first, *rest]
    if first not in (*layer_method, *merge_method.names()) or any(name not in correction for name in rest):
        raise OptionError(
            f"method is one of {', '.join((*merge_method.names(), *layer_method))}, with +{' or +'.join(correction)} "
            f"after it as wanted, not {method!r}" + _elsewhere(first)
        )
    return Steps(first, tuple(rest))


def _elsewhere(name: str) -> str:
    """What to do for a method that mergekit has."""
    known = ("ties", "dare", "della", "task_arithmetic", "sce", "breadcrumbs", "model_stock", "karcher", "nuslerp")
    if not name.startswith(known):
        return ""
    return ". It is one of mergekit's: write B aligned with `permgraph align`, and give A and that folder to mergekit"


@typed
@with_bar
def merge(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    *,
    alignment: Alignment | None = None,
    weight: Weight = 0.5,
    method: str = "linear",
    data: Iterable[Any] | None = None,
    spec: PermutationSpec | None = None,
    base: nn.Module | Loaded | Mapping[str, Tensor] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """A new state dict between A and B', B moved by `alignment`; None merges B unmoved.

    Args:
        model_a: the reference, or what `load` returned of it; neither model is changed.
        model_b: the other one.
        alignment: how B is moved.
        weight: A's share: 1 is A, 0 is B'. A mapping from groups or roles to shares, "default" for the rest; or
            "correlation", from how well each group matched (`correlation_shares`). See `Shares` for which share a
            tensor takes.
        method: "linear" or "slerp"; "regmean" or "pleas" for the linear and convolution layers, by least squares;
            followed, as wanted, by "+repair", "+batch_norm", "+refit" or "+heal". "repair" alone is "linear+repair". Or
            the name of an installed merge method: see `permgraph.merging.registry`.
        data: calibration batches, as for `align`, for every method but "linear" and "slerp". Read more than once.
        spec: the groups that a mapping names, where there is no alignment.
        base: the model, or its state dict, that A was fine-tuned from, for methods that merge differences to it. What
            `load` returned may have other tokens, channels and positions.
        progress: called as progress(stage, done, total). By default a bar in a notebook, and nothing elsewhere.
        options: the method's own, by name.

    Computed in float32 or wider, and returned in A's dtypes; what is not floating point (counters, index tables) is
    A's. Tied weights stay tied.

    Returns:
        A new state dict with A's names, shapes and dtypes. "batch_norm" on models without one changes nothing, with a
        PermgraphWarning.

    Raises:
        SpecMismatchError: the models are not of one architecture, or `weight` names no group.
        NonFiniteError: a weight is not finite.
        CalibrationError: a method needs data and there is none, or it is empty or not finite.
        OptionError: an unknown method or option, a weight outside [0, 1], or a model that is not the one that was
            aligned.
        PluginError: an installed merge method cannot be loaded, or does not return what it should.

    """
    return dict(Merges(model_a, model_b, alignment, data, spec, base, progress).at(weight, method, **options))


class Merges:
    """All merges of two models: what does not depend on share and method is done once.

    The arguments are those of `merge`, and so are the errors.
    """

    def __init__(
        self,
        model_a: nn.Module | Loaded,
        model_b: nn.Module | Loaded,
        alignment: Alignment | None = None,
        data: Iterable[Any] | None = None,
        spec: PermutationSpec | None = None,
        base: nn.Module | Loaded | Mapping[str, Tensor] | None = None,
        progress: Progress | None = None,
        owners: Owners | None = None,
    ) -> None:
        self.models = _models((model_a, model_b), alignment)
        if alignment is not None and alignment.spec.kinds == "all":
            self.models = alignment.models  # with their norms folded
        self.alignment, self.spec, self.progress = alignment, spec, progress
        known = owners or Owners(() if alignment is None else (alignment.borders,))
        self.owners, self.base = with_base(known, (model_a, model_b), base)
        self.data = data

    @cached_property
    def calibration(self) -> Calibration:
        """Both models on the data, B moved."""
        if self.data is None:
            raise CalibrationError("this method compares activations: give it calibration data")
        a, b = self.models.states
        moved = b if self.alignment is None else self.alignment.state_dict
        return Calibration(self.models.with_states(a, moved), Batches.of(self.data), self.progress)

    def at(self, weight: Weight, method: str = "linear", **options: Any) -> Mapping[str, Tensor]:
        """The merge with this share of A by this method, a new state dict."""
        steps, shares = steps_of(method), shares_of(weight, self.alignment, self.spec)
        if "heal" in steps.corrections and self.alignment is not None and self.alignment.kept:
            raise OptionError(
                f"method {method!r} trains a merge to return what both models do, and their heads differ: leave out "
                "+heal, or merge the models without their heads"
            )
        layers = layer_method.get(steps.first)
        one = TensorMerge.of("linear" if layers else steps.first, self.models.states, self.base, options)
        one = one.folded(self.models.foldable)
        if steps.needs_data:
            self.calibration.program  # noqa: B018 - what is wrong with the data is said before the work
        state = self.models.states[0]
        elementwise = (
            steps.first == "linear" and not shares.by_group
        )  # each number of a merge then has a number of A and B
        part = partial(self._rows, method=one, shares=shares) if elementwise else None
        merged = each_once(state, lambda name: self._tensor(name, one, shares), part, self._in_rows)
        if not steps.needs_data:
            return self._with_borders(merged, shares)
        first = {memory_of(tensor): name for name, tensor in reversed(list(state.items()))}
        result = {name: merged[name] for name in first.values()}
        if layers:
            result |= merge_layers(layers.function, self.calibration, shares)
        for name in steps.corrections:
            result |= correction[name].function(self.calibration, result, shares)
        return self._with_borders({name: result[first[memory_of(tensor)]] for name, tensor in state.items()}, shares)

    def _with_borders(self, merged: Mapping[str, Tensor], shares: Shares) -> Mapping[str, Tensor]:
        """The same, in which the rows and channels that not both models have are those of the one that has them."""
        a, b = self.models.states
        moved = b.__getitem__ if self.alignment is None else self.alignment.moved

        def completed(name: str) -> Tensor:
            share = shares.of(name)
            return self.owners.completed(name, merged[name], (a[name], moved(name)), (share, 1 - share))

        return self.owners.into(merged, completed)

    def _tensor(self, name: str, method: TensorMerge, shares: Shares) -> Tensor:
        a, b = (state[name] for state in self.models.states)
        if self.alignment is not None:
            b = self.alignment.moved(name)
        share = shares.of(name)
        return method(name, (a, b), (share, 1 - share))

    def _in_rows(self, name: str) -> bool:
        return alone(self.models.states[0], name) and alone(self._moved, name)

    @cached_property
    def _moved(self) -> Mapping[str, Tensor]:
        return self.models.states[1] if self.alignment is None else self.alignment.state_dict

    def _rows(self, name: str, start: int, stop: int, *, method: TensorMerge, shares: Shares) -> Tensor:
        share = shares.of(name)
        parts = [rows_of(state, name, (start, stop)) for state in (self.models.states[0], self._moved)]
        return method(name, parts, (share, 1 - share))


def _models(given: tuple[nn.Module | Loaded, nn.Module | Loaded], alignment: Alignment | None) -> Models:
    """The two models with what the alignment knows of them; its own where they were fitted, or weights are in files."""
    if alignment is None:
        return Models.of(given)
    if isinstance(alignment.models.states[0], LazyState):
        return alignment.models
    fitted = bool(alignment.kept or alignment.borders)
    models = alignment.models if fitted else Models.of(given).sharing(alignment.models)
    _require_aligned(given, alignment)
    return models


def _require_aligned(given: tuple[nn.Module | Loaded, nn.Module | Loaded], alignment: Alignment) -> None:
    """Raise OptionError for a model in whose place the alignment's own would be merged.

    That is B, which the alignment moves, and A where the alignment has another form of it.
    """
    known = alignment.models
    fitted = {*alignment.kept, *(name for one in alignment.borders.borders for name in (*one.axes, *one.axes_b))}
    whole = alignment.spec.kinds == "all" or bool(fitted)
    for number in (0, 1) if whole else (1,):
        own = known.modules[number].state_dict() if known.folds else known.states[number]
        if number and alignment.kept:  # the module in its place is A's
            own = alignment.given_b or own
        state = state_of(given[number])
        for name, tensor in own.items():
            if name in state and name not in fitted and not _equal(tensor, state[name]):
                raise OptionError(
                    f"model {'AB'[number]} is not the one that was aligned: {name} differs; align these two models, or "
                    "give those that were"
                )


def _equal(a: Tensor, b: Tensor) -> bool:
    return memory_of(a) == memory_of(b) or (a.shape == b.shape and torch.equal(a, b.to(a.device)))
