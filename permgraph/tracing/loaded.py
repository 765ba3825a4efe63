"""A model together with what its trace needs, as `permgraph.load` returns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import LazyState
from permgraph.errors import OptionError
from permgraph.tracing.inputs import as_args
from permgraph.tracing.wrappers import require_plain
from permgraph.wording import shortened

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
AxisTies = Mapping[tuple[str, int], tuple[str, int]]


class Loaded(Protocol):
    """A model with example inputs, and the ties of the parameters that its forward pass does not reach."""

    @property
    def model(self) -> nn.Module:
        """The model, in eval mode."""

    @property
    def args(self) -> tuple[Any, ...]:
        """Example positional inputs."""

    @property
    def kwargs(self) -> dict[str, Any]:
        """Example keyword inputs."""

    @property
    def tie(self) -> dict[tuple[str, int], tuple[str, int]]:
        """As in `derive`."""


def _is_loaded(given: Any) -> TypeGuard[Loaded]:
    has_all = all(hasattr(given, name) for name in ("args", "kwargs", "tie"))  # a trainer has a model and other args
    return not isinstance(given, nn.Module) and has_all and isinstance(getattr(given, "model", None), nn.Module)


def module_of(given: nn.Module | Loaded) -> nn.Module:
    """The model itself. Raises CaptureError for anything else, such as a state dict or the name of a folder."""
    if isinstance(given, nn.Module):
        return given
    return given.model if _is_loaded(given) else require_plain(given)


def state_of(given: nn.Module | Loaded) -> Mapping[str, Tensor]:
    """The weights: those that are read on demand if the model was loaded without them, else the model's."""
    weights = None if isinstance(given, nn.Module) else getattr(given, "weights", None)
    return weights if isinstance(weights, LazyState) else dict(module_of(given).state_dict())


def inputs_of(given: nn.Module | Loaded, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Inputs:
    """The given inputs, else those that the model was loaded with."""
    own = (as_args(args), dict(kwargs or {}))
    return (given.args, dict(given.kwargs)) if _is_loaded(given) and not any(own) else own


def tie_of(given: nn.Module | Loaded, tie: AxisTies | None = None) -> dict[tuple[str, int], tuple[str, int]]:
    """The given ties, else those that the model was loaded with. Raises OptionError if they have the wrong form."""
    found = given.tie if tie is None and _is_loaded(given) else tie if tie is not None else {}
    if not isinstance(found, Mapping):
        raise OptionError(f"tie is a dict {{(parameter, dim): (parameter, dim)}}, not {shortened(repr(found), 80)}")
    for pair in found.items():
        if not all(isinstance(axis, tuple) and [*map(type, axis)] == [str, int] for axis in pair):
            named = (shortened(repr(axis), 80) for axis in pair)
            raise OptionError(f"a tie is {{(parameter, dim): (parameter, dim)}}, not {' and '.join(named)}")
    return dict(found)
