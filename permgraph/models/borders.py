"""Gives loaded models whose borders differ the same shapes, with their configs, inputs and tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.alignment import Alignment
from permgraph.matching.borders import Borders
from permgraph.matching.fitting import fit
from permgraph.matching.resizing import resize_config
from permgraph.models.loaded import LoadedModel
from permgraph.models.transformers_models import base_prefix
from permgraph.models.vocabulary import add_tokens
from permgraph.uses.enlarging import Enlarged, enlarge


@dataclass(frozen=True)
class FittedModels:
    """Models of one shape, their base last if there is one, and the borders of each with the first.

    `finish`: how to change the processor files of the output.
    """

    models: tuple[LoadedModel, ...]
    borders: tuple[Borders, ...] = ()
    finish: Callable[[Path], None] | None = None

    def below(self, parts: Sequence[LoadedModel]) -> list[Borders]:
        """The borders of parts of the models, by the names of their tensors there."""
        prefixes = [_prefix(whole.model, part.model) for whole, part in zip(self.models, parts, strict=True)]
        pairs = zip(self.borders, prefixes, strict=True)
        return [borders.below(prefixes[0], prefix) for borders, prefix in pairs] if self.borders else []


@dataclass(frozen=True)
class FittedPair:
    """Two models of one shape, how to change the processor files of the output, and how B was enlarged.

    `base_borders`: the borders of A with the model that both were fine-tuned from.
    """

    a: LoadedModel
    b: LoadedModel
    borders: Borders = field(default_factory=Borders)
    finish: Callable[[Path], None] | None = None
    enlarged: Enlarged | None = None
    base_borders: Borders = field(default_factory=Borders)

    def aligned(self, found: Alignment, a: LoadedModel, b: LoadedModel) -> Alignment:
        """An alignment of parts of the two models, with the borders of these parts."""
        if not self.borders or self.b.given is None:
            return found
        prefixes = [_prefix(whole.model, part.model) for whole, part in ((self.a, a), (self.b, b))]
        own = _below(self.b.given.weights, prefixes[1])
        return found.with_borders(self.borders.below(*prefixes), own)

    def of_base(self, models: Sequence[LoadedModel], parts: Sequence[LoadedModel]) -> Borders:
        """The borders of A and the base, by the names of these parts of them."""
        prefixes = [_prefix(whole.model, part.model) for whole, part in zip(models, parts, strict=True)]
        return self.base_borders.below(prefixes[0], prefixes[-1])


def fit_loaded(models: Sequence[LoadedModel], base: LoadedModel | None = None) -> FittedModels:
    """Loaded models on the axes of the output, as `fit` has it; themselves where no border differs."""
    first, whole = models[0], (*models, *([] if base is None else [base]))
    found = fit(models, lambda: (first.args, first.kwargs), base)
    if not found:
        return FittedModels(whole)
    extended = next((one for one in found.borders if one.changes_a), Borders())
    fitted = [_of_shape(found.models[0], first, extended.sizes(of_b=False), first.config)]
    for model, given, borders in zip(found.models[1:], whole[1:], found.borders[1:], strict=True):
        fitted.append(_with_inputs(_of_shape(model, given, borders.sizes(of_b=True), first.config), first))
    finishes = [partial(_finish, first, model, found.added, k) for k, model in enumerate(models) if found.added[k]]
    return FittedModels(tuple(fitted), found.borders, partial(_each, finishes) if finishes else None)


def _of_shape(fitted: LoadedModel, given: LoadedModel, sizes: Mapping[int, int], like: Any) -> LoadedModel:
    return replace(fitted, config=_resized(given.config, sizes, like), given=given) if fitted is not given else given


def _with_inputs(model: LoadedModel, first: LoadedModel) -> LoadedModel:
    """The same with the first's inputs, where both are called alike."""
    if model.given is None:
        return model
    same = model.kwargs.keys() == first.kwargs.keys() and len(model.args) == len(first.args)
    args, kwargs = (first.args, first.kwargs) if same else model.adapter.example_inputs(model.model)
    return replace(model, args=args, kwargs=kwargs)


def enlarge_loaded(a: LoadedModel, b: LoadedModel, kinds: str = "permutation") -> FittedPair:
    """A, and B as a model of A's sizes, as by `enlarge`; unchanged if all sizes are the same."""
    shapes = [{name: tensor.shape for name, tensor in model.model.state_dict().items()} for model in (a, b)]
    if shapes[0] == shapes[1]:
        return FittedPair(a, b)
    found = enlarge(a, b, kinds=kinds)
    return FittedPair(a, replace(found.model, config=a.config, given=b), enlarged=found)


def _each(finishes: Sequence[Callable[[Path], None]], folder: Path) -> None:
    for finish in finishes:
        finish(folder)


def _finish(a: LoadedModel, b: LoadedModel, added: Sequence[Sequence[str]], number: int, folder: Path) -> None:
    """Add the tokens that come from model `number` behind those of A and of the models before it."""
    tokens = a.vocabulary.tokens() if a.vocabulary is not None else None
    if b.folder is None or tokens is None:
        return
    first = max(tokens.values()) + 1 + sum(map(len, added[:number]))
    add_tokens(folder, source=b.folder, added=tuple(added[number]), first=first)


def _below(state: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    names = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    return state.below(prefix, names) if isinstance(state, LazyState) else {n: state[f"{prefix}{n}"] for n in names}


def _resized(config: Any, sizes: Mapping[int, int], like: Any) -> Any:
    if config is None or isinstance(config, Mapping):
        return config
    other = copy.deepcopy(config)
    resize_config(other, sizes, like)
    return other


def _prefix(whole: nn.Module, part: nn.Module) -> str:
    """The prefix of a part's names in the whole model."""
    prefix = base_prefix(whole)
    return f"{prefix}." if prefix and len(part.state_dict()) < len(whole.state_dict()) else ""
