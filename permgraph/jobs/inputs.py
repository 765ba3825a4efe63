"""The batches on which a job runs the models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from permgraph.data.example_inputs import longest_text
from permgraph.data.synthetic import Synthetic, synthetic
from permgraph.errors import OptionError
from permgraph.jobs.matching import Matching
from permgraph.jobs.session import Session
from permgraph.models.devices import device_of, moved_batches
from permgraph.models.loaded import LoadedModel

LENGTH = 64
"""Tokens of a text that models write."""


def calibration(session: Session, models: Sequence[LoadedModel], matching: Matching) -> Iterable[Any] | None:
    """The batches that the processor of the first model makes of the data, or synthetic ones; None without data."""
    if matching.data is None:
        return None
    if matching.is_synthetic:
        return _synthetic(session, models, matching)
    batches = models[0].calibration(matching.data, seed=session.seed, limit=matching.limit)
    return moved_batches(batches, device_of(session.device))


def _synthetic(session: Session, models: Sequence[LoadedModel], matching: Matching) -> Synthetic:
    """Inputs without data, texts of up to LENGTH tokens."""
    if any(model.lazy is not None for model in models):
        raise OptionError("--data synthetic runs the models whole: leave out --max-memory")
    length = longest_text(models[0].model, LENGTH) if models[0].folder is not None else None
    return synthetic(models, samples=matching.limit, length=length, seed=session.seed)
