"""Gives models whose borders differ the same shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import LazyState, like
from permgraph.comparing.batches import Batch, Batches
from permgraph.matching.borders import Border, Borders
from permgraph.matching.finding_borders import Differing, borders_in, differing, shapes_of
from permgraph.matching.resizing import resized
from permgraph.matching.vocabularies import Vocabulary, vocabulary_borders
from permgraph.tracing.capture import capture
from permgraph.tracing.inputs import as_args
from permgraph.tracing.loaded import Loaded, inputs_of, module_of, state_of
from permgraph.tracing.wrappers import require_plain


@dataclass(frozen=True)
class Fitted:
    """Models of one shape; of each its borders with the first, none for the first, and the tokens that it adds."""

    models: tuple[Any, ...]
    borders: tuple[Borders, ...]
    added: tuple[tuple[str, ...], ...]

    def __bool__(self) -> bool:
        return any(self.borders)


def fit(
    models: Sequence[nn.Module | Loaded], example: Callable[[], Batch], base: nn.Module | Loaded | None = None
) -> Fitted:
    """The models on the axes of the output, A's plus added tokens; unchanged if no border differs.

    A base comes last and adds no tokens. `example` gives inputs of A, if they are needed. Raises SpecMismatchError for
    vocabularies that differ in a way that cannot be determined.
    """
    given = [*models, *([] if base is None else [base])]
    for model in given:
        require_plain(module_of(model))
    tokens = vocabulary_borders(
        _vocabulary(given[0]), [_vocabulary(model) for model in given[1:]], adding=len(models) - 1
    )
    borders = [Borders()]
    for model, border in zip(given[1:], tokens.borders, strict=True):
        others = _others(given[0], model, border)
        borders.append(Borders((*([] if border is None else [border]), *_in_graph(given[0], example, others))))
    return Fitted(fitted_models(given, borders), tuple(borders), ((), *tokens.added))


def fitted_models(models: Sequence[Any], borders: Sequence[Borders]) -> tuple[Any, ...]:
    """The models on the axes of the output, given the borders of each with the first."""
    own = next((one for one in borders if one.changes_a), Borders())
    first = _fitted(models[0], own.fitted(state_of(models[0])), own.sizes(of_b=False), {}, {})
    return first, *(_fitted_to(models[0], *pair) for pair in list(zip(models, borders, strict=True))[1:])


def _fitted_to(first: Any, model: Any, borders: Borders) -> Any:
    if not borders:
        return model
    a, b = (module_of(one) for one in (first, model))
    mine, theirs = _prefix(a), _prefix(b)
    like_a = {"": a, **{f"{theirs}{name.removeprefix(mine)}": module for name, module in a.named_modules() if name}}
    tensors, sizes = borders.fitted(state_of(model), of_b=True), borders.sizes(of_b=True)
    return _fitted(model, tensors, sizes, _computed(a, b, whole=borders.resizes), like_a)


def _others(model_a: Any, model_b: Any, vocabulary: Border | None) -> tuple[Differing, ...]:
    """The axes of other lengths but those of tokens."""
    states = [state_of(model) for model in (model_a, model_b)]
    known = set() if vocabulary is None else set(vocabulary.axes.items())
    found = differing(_shapes(states[0]), _shapes(states[1]), _names(states[0], states[1], model_a, model_b))
    return tuple(axis for axis in found if (axis.name, axis.dim) not in known)


def example_of(model: nn.Module | Loaded, data: Any, args: Any, kwargs: Mapping[str, Any] | None) -> Batch:
    """Inputs to trace a model with: the given ones, else its own, else the first batch of the data."""
    given = (as_args(args), dict(kwargs or {}))
    given = given if any(given) else inputs_of(model)
    return given if any(given) or data is None else Batches.of(data).first


def _in_graph(
    model: nn.Module | Loaded, example: Callable[[], Batch], others: tuple[Differing, ...]
) -> tuple[Border, ...]:
    return borders_in(capture(module_of(model), *example()), others) if others else ()


def _fitted(
    model: Any,
    tensors: Mapping[str, Tensor],
    sizes: Mapping[int, int],
    computed: Mapping[str, Tensor],
    first: Mapping[str, nn.Module],
) -> Any:
    """A model with other tensors, sizes, and buffers that it computes; its modules are made for images as `first`'s."""
    if not tensors and not computed:
        return model
    module = resized(module_of(model), {**like(tensors), **computed}, sizes, first)
    if isinstance(model, nn.Module):
        return module
    state = state_of(model)
    return replace(model, model=module, **({"lazy": state.with_(tensors)} if isinstance(state, LazyState) else {}))


def _computed(a: nn.Module, b: nn.Module, *, whole: bool) -> dict[str, Tensor]:
    """Buffers of B that differ from A's only in length, or with `whole` in size: name in B -> A's buffer."""
    mine = {name.removeprefix(_prefix(a)): buffer for name, buffer in a.named_buffers()}
    found = {}
    for name, buffer in b.named_buffers():
        other = mine.get(name.removeprefix(_prefix(b)))
        if other is not None and other.dim() == buffer.dim() and other.shape != buffer.shape:
            both = tuple(slice(min(sizes)) for sizes in zip(other.shape, buffer.shape, strict=True))
            known = name not in b.state_dict() and not buffer.is_meta
            if known and (whole or torch.equal(other[both], buffer[both])):
                found[name] = other
    return found


def _vocabulary(model: Any) -> Vocabulary | None:
    found: Vocabulary | None = None if isinstance(model, nn.Module) else getattr(model, "vocabulary", None)
    return found


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return shapes_of(like(state))


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
