"""The models that the demo scores: both encoders, and their merges, aligned or not, healed or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from permgraph.comparing.batches import Progress
from permgraph.data.audio import AudioBatches
from permgraph.demo.hearing import Heard
from permgraph.demo.probes import RATE, Probe, scores
from permgraph.jobs.aligned import Aligned
from permgraph.learning.heal import heal
from permgraph.merging.merge import merge

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = (0.5, 0.9)
HEALED = 0.5
"""A's share in the merges that are healed as well."""
STEPS = 30
WINDOW_SECONDS = 2.5
"""Of healing: how many steps, on windows of this length."""


@dataclass(frozen=True)
class Row:
    """A model of the table: `kind` is "A", "B", "plain" or "aligned", `scores` accuracy by probe.

    `weight` is A's share, None for A and B themselves; `steps`, of healing.
    """

    kind: str
    title: str
    weight: float | None
    scores: Mapping[str, float]
    steps: int = 0


def score_rows(aligned: Aligned, probes: Iterable[Probe], clips: Path, progress: Progress) -> Iterator[Row]:
    """A, B, the plain average and the aligned merge at each weight; at HEALED also healed on `clips`."""
    a, b, probes = aligned.a.model, aligned.b.model, tuple(probes)
    yield Row("A", "A, speech", None, merged_scores(a, a.state_dict(), probes))
    yield Row("B", "B, music", None, merged_scores(a, b.state_dict(), probes))
    for weight in WEIGHTS:
        merges = {
            kind: merge(a, b, alignment=alignment, weight=weight)
            for kind, alignment in (("plain", None), ("aligned", aligned.alignment))
        }
        for steps in (0, STEPS) if weight == HEALED else (0,):
            for kind, state in merges.items():
                done = healed(aligned, state, clips, steps, progress) if steps else state
                yield Row(kind, _title(kind, weight, steps), weight, merged_scores(a, done, probes), steps)


def _title(kind: str, weight: float, steps: int) -> str:
    name = {"plain": "plain average", "aligned": "aligned"}[kind]
    return f"{name} at {weight:g} A" + (", healed" if steps else "")


def healed(
    aligned: Aligned, state: Mapping[str, Tensor], clips: Path, steps: int, progress: Progress
) -> dict[str, Tensor]:
    """A merge after so many steps towards all that both encoders hear in the unlabelled `clips`, on one thread."""
    a, b = aligned.a.model, aligned.b.model
    windows = AudioBatches(clips, rate=RATE, seconds=WINDOW_SECONDS)
    batches = [batch | {"output_hidden_states": True} for batch in windows]
    with _one_thread():
        return heal(state, a, b, batches, steps=steps, loss=Heard((a, b)), progress=progress)


def merged_scores(like: nn.Module, state: Mapping[str, Tensor], probes: Iterable[Probe]) -> dict[str, float]:
    """Accuracy by probe of a model with these weights, on one thread."""
    model: Any = deepcopy(like)
    model.load_state_dict(state)
    with _one_thread():
        return scores(model, probes)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, because the figures would depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
