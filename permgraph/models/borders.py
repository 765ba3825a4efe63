"""Gives loaded models whose borders differ the same shapes, with their configs, inputs and tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from permgraph.matching.align import Alignment
from permgraph.matching.borders import Borders, resize_fields
from permgraph.matching.fitting import fit
from permgraph.models.loaded import LoadedModel
from permgraph.models.transformers_models import base_prefix
from permgraph.models.vocabulary import add_tokens
from permgraph.uses.enlarging import Enlarged, enlarge


@dataclass(frozen=True)
class FittedPair:
    """Two models of one shape, how to change the processor files of the output, and how B was enlarged."""

    a: LoadedModel
    b: LoadedModel
    borders: Borders = field(default_factory=Borders)
    finish: Callable[[Path], None] | None = None
    enlarged: Enlarged | None = None

    def aligned(self, found: Alignment, a: LoadedModel, b: LoadedModel) -> Alignment:
        """An alignment of parts of the two models, with the borders of these parts."""
        if not self.borders or self.b.given is None:
            return found
        prefixes = [_prefix(whole.model, part.model) for whole, part in ((self.a, a), (self.b, b))]
        own = {n.removeprefix(prefixes[1]): t for n, t in self.b.given.weights.items() if n.startswith(prefixes[1])}
        return found.with_borders(self.borders.below(*prefixes), own)


def fit_loaded(a: LoadedModel, b: LoadedModel) -> FittedPair:
    """Two loaded models on the axes of the output, as by `fit`; unchanged if no border differs."""
    found = fit(a, b, lambda: (a.args, a.kwargs))
    if not found.borders:
        return FittedPair(a, b, found.borders)
    fitted_a = replace(found.a, config=_resized(a.config, found.borders.sizes(of_b=False)), given=a)
    fitted_b = replace(found.b, config=_resized(b.config, found.borders.sizes(of_b=True)), given=b)
    same = b.kwargs.keys() == a.kwargs.keys() and len(b.args) == len(a.args)
    args, kwargs = (a.args, a.kwargs) if same else b.adapter.example_inputs(fitted_b.model)
    return FittedPair(fitted_a, replace(fitted_b, args=args, kwargs=kwargs), found.borders, _finish(a, b, found.added))


def enlarge_loaded(a: LoadedModel, b: LoadedModel) -> FittedPair:
    """A, and B as a model of A's sizes, as by `enlarge`; unchanged if all sizes are the same."""
    shapes = [{name: tensor.shape for name, tensor in model.model.state_dict().items()} for model in (a, b)]
    if shapes[0] == shapes[1]:
        return FittedPair(a, b)
    found = enlarge(a, b)
    return FittedPair(a, replace(found.model, config=a.config, given=b), enlarged=found)


def _finish(a: LoadedModel, b: LoadedModel, added: tuple[str, ...]) -> Callable[[Path], None] | None:
    tokens = a.vocabulary.tokens() if a.vocabulary is not None else None
    if not added or b.folder is None or tokens is None:
        return None
    return partial(add_tokens, source=b.folder, added=added, first=max(tokens.values()) + 1)


def _resized(config: Any, sizes: Mapping[int, int]) -> Any:
    if config is None or isinstance(config, Mapping) or all(old == new for old, new in sizes.items()):
        return config
    other = copy.deepcopy(config)
    for part in (other, *(part for part in vars(other).values() if hasattr(part, "to_dict"))):
        resize_fields(part, sizes)
    return other


def _prefix(whole: nn.Module, part: nn.Module) -> str:
    """The prefix of a part's names in the whole model."""
    prefix = base_prefix(whole)
    return f"{prefix}." if prefix and len(part.state_dict()) < len(whole.state_dict()) else ""
