"""Probes a frozen encoder by SUPERB's and MARBLE's protocol: a learned weighted sum of all hidden states, a small head.

SUPERB: arXiv 2105.01051; MARBLE: arXiv 2306.10548. The hidden states are averaged over an example's frames; the head
is one linear layer. Where the test side is fixed, a probe seed is a random nine tenths of the training groups;
elsewhere it is a random split of the groups in three, each tested by a probe that is fitted on the other two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.speech_music.precision import computing
from benchmarks.speech_music.probe_audio import FOLDER
from benchmarks.speech_music.streams import normalised
from permgraph.demo.probes import fit_head, mixed_logits

SECONDS_AT_ONCE = 32
ITERATIONS = 30
KEPT = 0.9
FOLDS = 3


@dataclass(frozen=True)
class Task:
    """One classification task: examples (clip, first frame, last frame) of `clips`, a label and a group each.

    `crossed`: all examples test, by cross-validation over groups.
    """

    name: str
    title: str
    domain: str
    clips: str
    spans: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    test: NDArray[np.bool_]
    crossed: bool = False

    @property
    def fitted(self) -> int:
        """How many examples a probe may be fitted on."""
        return round(len(self.test) * (1 - 1 / FOLDS)) if self.crossed else int((~self.test).sum())

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return int(self.labels.max()) + 1

    @property
    def chance(self) -> float:
        """Test accuracy of the most frequent training label."""
        guess = np.bincount(self.labels[~self.test | self.crossed]).argmax()
        return float((self.labels[self.test] == guess).mean())


@cache
def tasks(folder: Path = FOLDER) -> tuple[Task, ...]:
    """All tasks of `tasks.json`; labels that a probe may not have been fitted on are left out."""
    found = []
    for clips, described in json.loads((folder / "tasks.json").read_text()).items():
        for name, fields in described["tasks"].items():
            crossed = fields["examples"][0][5] is None
            rows = learnable(fields["examples"], FOLDS if crossed else 1)
            spans, test = np.array([row[:3] for row in rows]), np.array([crossed or row[5] for row in rows])
            labels, groups = (np.unique([row[k] for row in rows], return_inverse=True)[1] for k in (3, 4))
            about = (name, fields["title"], fields["domain"], clips)
            found.append(Task(*about, spans, labels, groups, test, crossed))
    return tuple(found)


def learnable(examples: Sequence[Sequence[Any]], least: int) -> list[Sequence[Any]]:
    """The examples whose label so many groups have that are not for testing alone."""
    groups: dict[str, set[str]] = {}
    for *_, label, group, test in examples:
        if not test:
            groups.setdefault(label, set()).add(group)
    return [row for row in examples if len(groups.get(row[3], ())) >= least]


@torch.inference_mode()
def hidden_states(model: nn.Module, audio: Tensor, fp32: bool) -> Tensor:
    """(clips, layers + 1, frames, width)."""
    device = next(model.parameters()).device
    with computing(device, fp32):
        found = model(audio.to(device), output_hidden_states=True).hidden_states
    return torch.stack([states.float() for states in found], dim=1)


def batches(name: str, folder: Path = FOLDER) -> Iterator[tuple[int, Tensor]]:
    """(number of the first clip, audio) of a set, so many clips at a time as last 32 s."""
    clips = np.load(folder / f"{name}.npy", mmap_mode="r")
    size = max(1, SECONDS_AT_ONCE * 16000 // clips.shape[1])
    for first in range(0, len(clips), size):
        yield first, torch.from_numpy(normalised(clips[first : first + size]))


def features(model: nn.Module, name: str, spans: NDArray[np.int64], fp32: bool = False) -> Tensor:
    """(examples, layers + 1, width): the hidden states averaged over each span of the set `name`, as float32."""
    pooled: list[Tensor] = [torch.empty(0)] * len(spans)
    for first, audio in batches(name):
        states = hidden_states(model, audio, fp32)
        sums = torch.nn.functional.pad(states.cumsum(dim=2), (0, 0, 1, 0)).cpu()
        for k in np.flatnonzero((spans[:, 0] >= first) & (spans[:, 0] < first + len(audio))):
            clip, begin, end = spans[k]
            pooled[k] = (sums[clip - first, :, end] - sums[clip - first, :, begin]) / float(end - begin)
    return torch.stack(pooled)


def splits(task: Task, seed: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Which examples a probe of this seed is fitted on, and which it is tested on; one pair for each fold."""
    rng = np.random.default_rng(seed)
    if task.crossed:
        fold = rng.permutation(task.groups.max() + 1)[task.groups] % FOLDS
        yield from ((fold != k, fold == k) for k in range(FOLDS))
        return
    groups = np.unique(task.groups[~task.test])
    if len(groups) < 20:  # so few that leaving one out would change the task; single examples are left out
        train = ~task.test & (rng.random(len(task.test)) < KEPT)
    else:
        kept = rng.permutation(groups)[: round(KEPT * len(groups))]
        train = ~task.test & np.isin(task.groups, kept)
    yield train, task.test


def hits(task: Task, inputs: Tensor, seed: int) -> NDArray[np.bool_]:
    """Which test examples the probes of this seed get right."""
    right = np.zeros(len(task.test), bool)
    for train, test in splits(task, seed):
        fitted = inputs[torch.from_numpy(train)]
        mean, deviation = fitted.mean(dim=0), fitted.std(dim=0) + 1e-5
        head = fit_head((fitted - mean) / deviation, torch.from_numpy(task.labels[train]), task.classes, ITERATIONS)
        logits = mixed_logits((inputs[torch.from_numpy(test)] - mean) / deviation, *head)
        right[test] = logits.argmax(dim=1).numpy() == task.labels[test]
    return right[task.test]


def probe(
    model: nn.Module, wanted: Iterable[Task], seeds: int, fp32: bool = False
) -> Mapping[str, list[NDArray[np.bool_]]]:
    """Task -> for each probe seed, which test examples are right. Tasks on one set share its features."""
    by_clips: dict[str, list[Task]] = {}
    for task in wanted:
        by_clips.setdefault(task.clips, []).append(task)
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for name, own in by_clips.items():
        spans = np.unique(np.concatenate([task.spans for task in own]), axis=0)
        pooled = features(model, name, spans, fp32)
        row = {tuple(span): k for k, span in enumerate(spans.tolist())}
        for task in own:
            inputs = pooled[[row[tuple(span)] for span in task.spans.tolist()]]
            found[task.name] = [hits(task, inputs, seed) for seed in range(seeds)]
    return found
