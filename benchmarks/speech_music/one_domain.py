"""Two encoders of one domain: how much of both parents a merge still has, as a probe hears it and as features.

A task of the domain counts where both parents are above chance by an interval, before any merge. `probes`: 1000 × the
mean over these tasks of accuracy / the mean accuracy of both parents. `features`: 1000 × the share of both parents'
hidden states that is a linear function of the merge's, on held-out audio, mean over layers and parents. The barrier
in either is the mean of what the two parents have minus what the merge has, as `permgraph.barrier` has it of a loss.
Intervals are those of `scoring`; those of features draw the windows of held-out audio anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speech_music.probing import Task
from benchmarks.speech_music.rows import ROWS
from benchmarks.speech_music.scoring import DRAWS, Draws, Experiment, interval, intervals

MEASURES = ("probes", "features")
CONTRASTS = (
    ("proposed", "linear"),
    ("proposed", "random"),
    ("learned", "proposed"),
    ("heal", "heal-as-is"),
    ("heal", "proposed"),
)
"""What is held against what at equal weights."""


class OneDomain(Experiment):
    """The cells of one pair, both encoders of one domain."""

    @cached_property
    def domain(self) -> str:
        """ "speech" or "music"."""
        return str(self.read("about")["domain"])

    @cached_property
    def common(self) -> list[Task]:
        """The tasks of the domain on which both encoders are above chance."""
        own = [task for task in self.tasks if task.domain == self.domain]
        return [task for task in own if all(interval(side)[1] > task.chance for side in self.alone[task.name])]

    @property
    def asked(self) -> list[str]:
        """The tasks that count."""
        return [task.name for task in self.common]

    def scores(self, files: Sequence[Mapping[str, Any]]) -> dict[str, Draws]:
        """The measures of a model; features where its states were compared."""
        parents = {task.name: sum(self.alone[task.name]) / 2 for task in self.common}
        ratios = [self.accuracy(task, files) / parents[task.name] for task in self.common]
        found = {"probes": 1000 * np.mean(ratios, axis=0)}
        if all("squares" in one for one in files):
            found["features"] = 1000 * np.mean([shared(one["squares"]) for one in files], axis=0).mean(axis=(0, 1))
        return found

    def barrier(self, scores: Mapping[str, Draws]) -> dict[str, Draws]:
        """The mean of both parents minus a merge, by each measure."""
        ends = [self.scores([self.read(side)]) for side in "AB"]
        return {name: (ends[0][name] + ends[1][name]) / 2 - scores[name] for name in scores}

    def described(self, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Scores and barriers of a model, its accuracies, and what it has of A and of B layer by layer."""
        scores = self.scores(files)
        found = intervals(scores) | {"tasks": {t.name: interval(self.accuracy(t, files)) for t in self.common}}
        if "features" not in scores:
            return found
        layers = np.mean([shared(one["squares"])[:, :, 0] for one in files], axis=0)
        sides = {side: [round(float(share), 4) for share in layers[:, k]] for k, side in enumerate("AB")}
        return found | {"barrier": intervals(self.barrier(scores)), "layers": sides}

    def result(self) -> dict[str, Any]:
        """Everything that the page shows of this pair."""
        titles = {row.name: row.title for row in ROWS}
        rows = [
            {"name": name, "title": titles[name], "weight": weight, **self.described(self.cells[name, weight])}
            for name in titles
            for weight in sorted(w for row, w in self.cells if row == name)
        ]
        contrasts = [
            {"row": row, "control": control, "weight": weight, **intervals(self.difference(row, control, weight))}
            for row, control in CONTRASTS
            for weight in sorted(w for name, w in self.cells if name == row and (control, w) in self.cells)
        ]
        alone = {side: self.described([self.read(side)]) for side in ("A", "B", "AB")}
        tasks = [
            {"name": task.name, "title": task.title, "counts": task in self.common}
            for task in self.tasks
            if task.domain == self.domain
        ]
        return {"about": self.read("about"), "tasks": tasks, **alone, "rows": rows, "contrasts": contrasts}


def shared(squares: Sequence[Sequence[Sequence[Sequence[float]]]]) -> np.ndarray:
    """(layers, parents, 1 + DRAWS): the share of a parent's states that is a linear function of the model's."""
    found = np.array(squares)  # layers, parents, left and all, windows
    count = found.shape[-1]
    drawn = np.random.default_rng(3).multinomial(count, np.full(count, 1 / count), DRAWS)
    sums = found @ np.concatenate([np.ones((1, count)), drawn]).T
    return 1 - sums[:, :, 0] / sums[:, :, 1]


def opened(folder: Path) -> Experiment:
    """The cells of a pair, of whatever domains."""
    one = json.loads((folder / "about.json").read_text()).get("domain", "both") != "both"
    return (OneDomain if one else Experiment).of(folder)
