"""Gives two models whose borders differ the same shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import LazyState
from permgraph.comparing.batches import Batch, Batches
from permgraph.errors import OptionError
from permgraph.matching.borders import Border, Borders, resized
from permgraph.matching.finding_borders import Differing, borders_in, differing, shapes_of
from permgraph.matching.vocabularies import Vocabulary, vocabulary_border
from permgraph.tracing.capture import as_args, capture
from permgraph.tracing.loaded import Loaded, inputs_of, module_of, state_of
from permgraph.tracing.wrappers import require_plain

Model = TypeVar("Model", bound=nn.Module | Loaded)


@dataclass(frozen=True)
class Fitted:
    """Models of one shape, the borders at which they differed, and the tokens that A gains."""

    a: Any
    b: Any
    borders: Borders
    added: tuple[str, ...] = ()


def fit(model_a: nn.Module | Loaded, model_b: nn.Module | Loaded, example: Callable[[], Batch]) -> Fitted:
    """The two models on the axes of the output; unchanged if no border differs.

    `example` gives inputs of A, if they are needed. Raises SpecMismatchError for vocabularies that differ in a way that
    cannot be determined, OptionError for weights that are read on demand.
    """
    for model in (model_a, model_b):
        require_plain(module_of(model))
    states = [state_of(model) for model in (model_a, model_b)]
    found = vocabulary_border(*(_vocabulary(model) for model in (model_a, model_b)))
    vocabulary, added = found or (None, ())
    names = _names(states[0], states[1], model_a, model_b)
    known = set() if vocabulary is None else {(name, dim) for name, dim in vocabulary.axes.items()}
    shapes = [_shapes(state) for state in states]
    others = tuple(axis for axis in differing(shapes[0], shapes[1], names) if (axis.name, axis.dim) not in known)
    borders = (*([] if vocabulary is None else [vocabulary]), *_in_graph(model_a, example, others))
    if not borders:
        return Fitted(model_a, model_b, Borders())
    if any(isinstance(state, LazyState) for state in states):
        raise OptionError(f"models that differ in {borders[0].what} are read as a whole: leave out --max-memory")
    given = Borders(borders)
    computed = _computed(*(module_of(model) for model in (model_a, model_b)))
    a = _fitted(model_a, given.fitted(states[0]), given.sizes(of_b=False))
    b = _fitted(model_b, given.fitted(states[1], of_b=True) | computed, given.sizes(of_b=True))
    return Fitted(a, b, given, added)


def example_of(model: nn.Module | Loaded, data: Any, args: Any, kwargs: Mapping[str, Any] | None) -> Batch:
    """Inputs to trace a model with: the given ones, else its own, else the first batch of the data."""
    given = (as_args(args), dict(kwargs or {})) if args or kwargs else inputs_of(model)
    return given if any(given) or data is None else Batches.of(data).first


def _in_graph(
    model: nn.Module | Loaded, example: Callable[[], Batch], others: tuple[Differing, ...]
) -> tuple[Border, ...]:
    return borders_in(capture(module_of(model), *example()), others) if others else ()


def _fitted(model: Any, tensors: Mapping[str, Tensor], sizes: Mapping[int, int]) -> Any:
    if not tensors:
        return model
    module = resized(module_of(model), tensors, sizes)
    return module if isinstance(model, nn.Module) else replace(model, model=module)


def _computed(a: nn.Module, b: nn.Module) -> dict[str, Tensor]:
    """Buffers of B that differ from A's only in length: name in B -> A's buffer."""
    mine = {name.removeprefix(_prefix(a)): buffer for name, buffer in a.named_buffers()}
    found = {}
    for name, buffer in b.named_buffers():
        other = mine.get(name.removeprefix(_prefix(b)))
        if other is not None and other.dim() == buffer.dim() and other.shape != buffer.shape:
            both = tuple(slice(min(sizes)) for sizes in zip(other.shape, buffer.shape, strict=True))
            if name not in b.state_dict() and torch.equal(other[both], buffer[both]):
                found[name] = other
    return found


def _vocabulary(model: Any) -> Vocabulary | None:
    found: Vocabulary | None = None if isinstance(model, nn.Module) else getattr(model, "vocabulary", None)
    return found


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return shapes_of(state.like if isinstance(state, LazyState) else state)


def _names(a: Mapping[str, Any], b: Mapping[str, Any], model_a: Any, model_b: Any) -> dict[str, str]:
    """Name in A -> the same tensor's name in B, where only one has the prefix of its base model."""
    mine, theirs = (_prefix(model) for model in (model_a, model_b))
    bare = {name.removeprefix(theirs): name for name in b}
    pairs = {name: name if name in b else bare.get(name.removeprefix(mine), "") for name in a}
    return {name: other for name, other in pairs.items() if other}


def _prefix(model: Any) -> str:
    module = module_of(model)
    prefix = getattr(module, "base_model_prefix", "")
    return f"{prefix}." if prefix and isinstance(getattr(module, prefix, None), nn.Module) else ""
