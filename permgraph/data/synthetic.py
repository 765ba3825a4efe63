"""Inputs that need no data: texts that the models write, and noise that looks like signals."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.arguments import typed
from permgraph.data.batches import Numbered
from permgraph.data.noise import signals
from permgraph.data.own_texts import Leaves, Run, TokenInput, generated, token_inputs, write
from permgraph.errors import CalibrationError, OptionError
from permgraph.tracing.inputs import device_of
from permgraph.tracing.loaded import Inputs, Loaded, inputs_of, module_of
from permgraph.tracing.twin import require_eval
from permgraph.wording import described

BATCHES, WRITTEN = 400, 48
"""How many batches there are by default; fewer of texts that models write, each of which takes many forward passes."""


@typed
def synthetic(
    models: Sequence[nn.Module | Loaded],
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    samples: int | None = None,
    batch_size: int = 16,
    length: int | None = None,
    seed: int = 0,
) -> Synthetic:
    """Batches for models of one architecture whose data is not at hand: as data for `align`, `heal` and the like.

    Inputs of real numbers become noise with the statistics of natural signals, half textures with a spectrum of 1/f^p,
    half regions with edges, with the mean and the deviation of the example. Token ids become texts: where the models
    predict the next token each writes an equal share of them, else ids are drawn uniformly. All other inputs, such as
    masks, are repeated from the example.

    Args:
        models: whose inputs these are, in eval mode; what `load` returned has example inputs of its own.
        args: example inputs: they say shapes and types.
        kwargs: example keyword inputs.
        samples: how many in all; by default 48 batches where the models write texts, else 400.
        batch_size: how many in a batch.
        length: tokens of a text; by default as many as in the example.
        seed: batches of one seed are the same.

    Returns:
        A sequence. Each batch is made when it is read; texts are kept.

    Raises:
        OptionError: a number is too small, or `models` is no list of models.
        CaptureError: a model is in training mode.
        CalibrationError: there is no example, the models cannot be run with it, or nothing of it can be drawn.

    """
    for model in models:
        require_eval(module_of(model))
    for name, least, number in (("samples", 1, samples), ("batch_size", 1, batch_size), ("length", 2, length)):
        if number is not None and number < least:
            raise OptionError(f"{name} is at least {least}, not {number}")
    example = inputs_of(models[0], args, kwargs)
    if not any(example):
        raise CalibrationError("synthetic inputs take their shapes from example inputs: give args= or kwargs=")
    leaves, form = pytree.tree_flatten(_named(module_of(models[0]), example))
    modules = [module_of(model) for model in models]
    texts = _tried(partial(_run, modules[0], form), leaves, token_inputs)
    noise = frozenset(k for k, leaf in enumerate(leaves) if _is_signal(leaf))
    if not texts and not noise:
        raise CalibrationError("no input of this model is a signal or a text that could be drawn: give data")
    if length is not None:  # the models must take it
        for text in texts:
            leaves[text.leaf] = leaves[text.leaf][:, :1].expand(-1, length)
        with torch.no_grad():
            _tried(partial(_run, modules[0], form), leaves, lambda run, leaves: run(leaves))
    written = any(text.logits is not None for text in texts)
    batch_size = batch_size if samples is None else min(batch_size, samples)
    count = (WRITTEN if written else BATCHES) if samples is None else samples // batch_size
    unit = "texts that the models wrote" if written else "synthetic samples"
    return Synthetic(modules, leaves, form, texts, noise, batch_size, count, seed, unit)


@dataclass(frozen=True, repr=False)
class Synthetic(Numbered):
    """What `synthetic` returns: batches as `(args…)` or `{name: input}`.

    Attributes:
        models: which write the texts.
        example: the leaves of the example.
        form: how inputs are made of leaves.
        texts: the leaves that are token ids.
        noise: the places of the leaves that become noise.
        batch_size: how many samples are in a batch.
        batches: how many there are.
        seed: of all that is drawn.
        unit: what one sample is, in the plural.

    """

    models: Sequence[nn.Module]
    example: Leaves
    form: pytree.TreeSpec
    texts: Sequence[TokenInput]
    noise: frozenset[int]
    batch_size: int
    batches: int
    seed: int
    unit: str
    _kept: dict[int, Leaves] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Synthetic({len(self)} batches of {self.batch_size} {self.unit})"

    def __len__(self) -> int:
        return self.batches

    def made(self, number: int) -> Any:
        """The batch of this number."""
        leaves = self._kept[number] if number in self._kept else self._leaves(number)
        if self.texts:
            self._kept[number] = leaves
        args, kwargs = pytree.tree_unflatten(leaves, self.form)
        return args or kwargs

    def _leaves(self, number: int) -> Leaves:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
        leaves = [self._repeated(leaf) for leaf in self.example]
        for k in sorted(self.noise):
            leaves[k] = _noise_like(self.example[k], self.batch_size, generator)
        for text in self.texts:
            like = self.example[text.leaf]
            shape = self.batch_size, like.shape[1]
            leaves[text.leaf] = torch.randint(text.vocabulary, shape, generator=generator, device="cpu").to(like)
        for text in self.texts:
            if text.logits is not None:
                leaves[text.leaf] = self._written(leaves, text, generator)
        return leaves

    def _repeated(self, leaf: Any) -> Any:
        rows = len(self.example[min({*self.noise, *(text.leaf for text in self.texts)})])
        if not _has_rows(leaf, rows):
            return leaf
        return leaf[torch.arange(self.batch_size, device=leaf.device) % rows]

    def _written(self, leaves: Leaves, text: TokenInput, generator: torch.Generator) -> Tensor:
        """Ids of which each model writes an equal share."""
        size, count, parts = self.batch_size, len(self.models), []
        for k, model in enumerate(self.models):
            share = slice(size * k // count, size * (k + 1) // count)
            part = [leaf[share] if _has_rows(leaf, size) else leaf for leaf in leaves]
            ids = part[text.leaf]
            if not len(ids):
                continue
            own = generated(model, ids.to(device_of(model)), generator) if len(leaves) == 1 else None
            if own is None:
                own = _tried(partial(_run, model, self.form), part, partial(write, text=text, generator=generator))
            parts.append(own.to(ids.device))
        return torch.cat(parts)


def _run(model: nn.Module, form: pytree.TreeSpec, leaves: Leaves) -> Any:
    device = device_of(model)
    args, kwargs = pytree.tree_unflatten(
        [leaf.to(device) if isinstance(leaf, Tensor) else leaf for leaf in leaves], form
    )
    return model(*args, **kwargs)


def _tried(run: Run, leaves: Leaves, work: Any) -> Any:
    try:
        return work(run, leaves)
    except Exception as error:  # whatever the model's code raises
        raise CalibrationError(f"the model cannot be run with inputs like the example: {described(error)}") from error


def _named(model: nn.Module, example: Inputs) -> Inputs:
    """Positional or keyword inputs; both at once all become keywords, since a batch is one or the other."""
    args, kwargs = example
    if not args or not kwargs:
        return example
    try:
        return (), dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise CalibrationError(f"the example inputs do not fit the model: {described(error)}") from error


def _has_rows(leaf: Any, rows: int) -> bool:
    """Whether a leaf has one row for each of so many samples."""
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == rows


def _is_signal(leaf: Any) -> bool:
    """Whether an input is of real numbers, with an axis besides that of samples, and no mask of zeros and ones."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.dim() < 2:
        return False
    return bool(((leaf != 0) & (leaf != 1)).any()) or not bool(leaf.any())


def _noise_like(leaf: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Noise of the shape, mean and deviation of an example; 0 and 1 where it is constant."""
    spread = float(leaf.double().std(correction=0))
    mean, spread = (float(leaf.double().mean()), spread) if spread else (0.0, 1.0)
    return (signals((samples, *leaf.shape[1:]), generator) * spread + mean).to(leaf)
