"""The loss between two models for `merge --loss`: the curves of the report, and a line of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from permgraph.comparing.batches import as_batch
from permgraph.errors import OptionError
from permgraph.merging.barrier import POINTS, Barrier, Judge, barrier
from permgraph.models.heads import common_part
from permgraph.models.references import find_function, importing_from_here
from permgraph.pages.report import barrier_words
from permgraph.wording import described

if TYPE_CHECKING:
    from permgraph.jobs.aligned import Aligned
    from permgraph.jobs.session import Progress
    from permgraph.models.loaded import LoadedModel

Curves = Mapping[str, Barrier]

OWN = "own"
MOST_BATCHES = 32
"""Batches of the data for a model's own loss, which is computed at every point of two curves."""


def judge_of(loss: str, models: Sequence[LoadedModel], batches: Callable[[], Iterable[Any]]) -> Judge:
    """A model -> its loss: `own`, that of a causal language model on the batches, or a `python:module:function`.

    It judges what is merged: the base models, if heads differ. Raises OptionError for models that code made with
    heads of other shapes, for a model without a loss of its own, and for a function that fails on the first model or
    does not return numbers.
    """
    parts = [model.model for model in common_part(models)[0]]
    if len({tuple((name, tensor.shape) for name, tensor in part.state_dict().items()) for part in parts}) > 1:
        raise OptionError(
            f"--loss {loss}: the two models differ in shape, so that no model lies between them. Leave it out, or give "
            "both models without their heads."
        )
    part = parts[0]
    judge = _own(part, batches) if loss == OWN else _by_function(loss)
    judge(part)  # fails now rather than after the models are matched
    return judge


def curves_of(
    aligned: Aligned,
    judge: Judge,
    method: str,
    data: Iterable[Any] | None,
    options: Mapping[str, Any],
    progress: Progress,
) -> Curves:
    """The loss between the two models, unmoved and aligned, both merged by `method`."""
    a, b = aligned.a.model, aligned.b.model
    ends = {id(model): judge(model) for model in (a, b)}
    done, total = 0, 2 * (POINTS - len(ends))

    def counted(model: nn.Module) -> float | tuple[float, float]:
        nonlocal done
        if id(model) in ends:
            return ends[id(model)]
        progress("judging", done, total)
        done += 1
        return judge(model)

    base = None if aligned.base is None else aligned.base.model
    how: dict[str, Any] = {"method": method, "data": data, "base": base, "owners": aligned.owners} | dict(options)
    plain = barrier(a, b, counted, **how)
    moved = barrier(a, b, counted, alignment=aligned.alignment, **how)
    progress("judging", total, total)
    by = "" if method == "linear" else f", {method}"
    return {f"unmoved{by}": plain, f"aligned{by}": moved}


def sentence(found: Curves) -> str:
    """The losses of A and B, and the height of each barrier between them."""
    first = next(iter(found.values()))
    between = "; ".join(f"{name}, {barrier_words(one)}" for name, one in found.items())
    return f"loss: {first.losses[-1]:.4g} of A, {first.losses[0]:.4g} of B; {between}"


def _own(part: nn.Module, batches: Callable[[], Iterable[Any]]) -> Judge:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(part).__name__ not in {getattr(kind, "__name__", "") for kind in MODEL_FOR_CAUSAL_LM_MAPPING.values()}:
        raise OptionError(
            f"--loss {OWN}: what is merged is a {type(part).__name__}, and only a causal language model has a loss "
            "without labels. Give --loss python:module:function, a function from a model to its loss."
        )

    def judge(model: nn.Module) -> float:
        with torch.no_grad():
            losses = [_next_token_loss(model, *as_batch(batch)) for batch in islice(batches(), MOST_BATCHES)]
        return sum(losses) / max(len(losses), 1)  # no batches are refused by the match

    return judge


def _next_token_loss(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
    return float(model(*args, **kwargs, labels=ids).loss)


def _by_function(reference: str) -> Judge:
    if not reference.startswith("python:"):
        raise OptionError(f"--loss {reference}: is neither {OWN!r} nor python:module:function. Give one of these.")
    function = find_function(reference.removeprefix("python:"))

    def judge(model: nn.Module) -> float | tuple[float, float]:
        try:
            with torch.no_grad(), importing_from_here():
                found = function(model)
            return (float(found[0]), float(found[1])) if isinstance(found, tuple) else float(found)
        except Exception as error:  # whatever the user's code raises
            raise OptionError(
                f"--loss {reference}: {described(error)}. The function is called with one model, a "
                f"{type(model).__name__}, and must return its loss, or (loss, accuracy)."
            ) from error

    return judge
