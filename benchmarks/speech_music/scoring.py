"""From the counts of every cell to scores with intervals.

A task's accuracy is that of its probes, averaged over probe seeds (and over a control's seeds). A speech task counts
where A is better than B, a music task where B is better than A: before any merge, by an interval that excludes 0, and
above chance by another. A task on which they do not differ, or differ the other way, counts in no score. The speech
score is 1000 × the mean over the speech tasks that count of accuracy / A's accuracy, the music score the same with
B's, and the average their mean, after arXiv 2506.11403. `transfer` is 1000 × the share of the way from A's accuracy
to B's, both summed over the music tasks that count: what merging can bring over. (Of sums, since a mean of shares has
no finite variance where one gap is small.) Intervals are 95 % percentiles of a bootstrap that draws the test groups
of every task, the probe seeds and a control's seeds anew; the same draws for all models, so that differences are
paired. The best weight of a row is chosen anew in every draw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speech_music.probing import Task, tasks
from benchmarks.speech_music.rows import ROWS

DRAWS = 2000
SCORES = ("speech", "music", "average")
TRANSFER = "transfer"
MEASURES = (*SCORES, TRANSFER)
KEPT = 970
"""The speech score that a merge may not fall below where `transfer` is compared."""
CONTRASTS = (
    *(("proposed", control) for control in ("random", "scrambled", "noise", "released")),
    *(("heal", control) for control in ("heal-as-is", "heal-random", "heal-learned")),
    ("refit", "refit-as-is"),
    ("learned-refit", "refit"),
    ("long", "long-as-is"),
    ("long", "long-random"),
    ("long", "long-learned"),
    *((row, f"{row}-{side}") for row in ("heal", "long") for side in "ab"),
    ("heal-heard", "heal"),
    *(
        (other, "proposed")
        for other in (
            "cnn-all",
            "kinds-weights",
            "kinds-still",
            "kinds",
            "learned",
            "learned-permuted",
            "learned-heard",
        )
    ),
)
"""What is held against what at equal weights: alignment against none, larger groups against permutations, and a merge
against either encoder alone, at its own weight."""
ALONE = {row.name: row.weights[0] for row in ROWS if row.family == "unmerged"}
"""Rows without a merge -> A's share."""
CPU = {"cpu_minutes": "cpu_seconds", "all_minutes": "all_seconds"}
"""What is summed over the merged models: of probing, and of aligning, merging, learning and probing."""
Draws = NDArray[np.float64]
"""(1 + DRAWS): the estimate, then the draws."""
Tree = dict[str, Any]
"""Draws by name, nested."""


def intervals(tree: Tree) -> Tree:
    """Every leaf as [estimate, low, high]."""
    return {name: intervals(leaf) if isinstance(leaf, dict) else interval(leaf) for name, leaf in tree.items()}


def interval(draws: Draws) -> list[float]:
    """[estimate, low, high]."""
    low, high = np.percentile(draws[1:], [2.5, 97.5])
    return [round(float(x), 4) for x in (draws[0], low, high)]


def transferred(stacked: Mapping[str, Draws]) -> Draws:
    """The largest transfer at a weight that keeps the speech score; 0 where none does, as A itself."""
    allowed = np.where(stacked["speech"] >= KEPT, stacked[TRANSFER], 0.0)
    return np.maximum(allowed.max(axis=0), 0.0)


def transferred_at(points: Sequence[Mapping[str, Any]]) -> float | None:
    """The weight of `transferred`; None where no weight keeps the speech score and goes any of the way."""
    kept = [point for point in points if point["speech"][0] >= KEPT and point[TRANSFER][0] > 0]
    return max(kept, key=lambda point: point[TRANSFER][0])["weight"] if kept else None


@dataclass(frozen=True)
class Experiment:
    """The cells of one pair and the draws that all of its models share."""

    folder: Path
    tasks: tuple[Task, ...]

    @classmethod
    def of(cls, folder: Path) -> Experiment:
        """Of the tasks that A has been asked."""
        done = json.loads((folder / "A.json").read_text())["right"]
        return cls(folder, tuple(task for task in tasks() if task.name in done))

    @cached_property
    def group_weights(self) -> dict[str, Draws]:
        """Task -> (1 + DRAWS, groups): how often each test group is drawn; once in the estimate."""
        rng = np.random.default_rng(0)
        found = {}
        for task in self.tasks:
            count = len(np.unique(task.groups[task.test]))
            drawn = rng.multinomial(count, np.full(count, 1 / count), DRAWS)
            found[task.name] = np.concatenate([np.ones((1, count)), drawn])
        return found

    def seed_weights(self, count: int, stream: int) -> Draws:
        """(1 + DRAWS, count): the share of each seed."""
        drawn = np.random.default_rng((1, stream)).multinomial(count, np.full(count, 1 / count), DRAWS)
        return np.concatenate([np.ones((1, count)), drawn]) / count

    def accuracy(self, task: Task, files: Sequence[Mapping[str, Any]]) -> Draws:
        """Accuracy on a task of one model, or of a control's models with their several seeds."""
        right = np.array([one["right"][task.name] for one in files], float)  # control seeds, probe seeds, groups
        _, sizes = np.unique(task.groups[task.test], return_counts=True)
        weights = self.group_weights[task.name]
        by_seed = np.einsum("rg,csg->rcs", weights, right) / (weights @ sizes)[:, None, None]
        controls, probes = (self.seed_weights(n, k) for k, n in enumerate(right.shape[:2]))
        return np.einsum("rcs,rc,rs->r", by_seed, controls, probes)

    def read(self, name: str) -> dict[str, Any]:
        """One file of the folder."""
        return json.loads((self.folder / f"{name}.json").read_text())

    @cached_property
    def references(self) -> dict[str, Draws]:
        """Task -> the accuracy that it is measured by: A's on speech, B's on music."""
        return {task.name: self.alone[task.name][task.domain == "music"] for task in self.tasks}

    @cached_property
    def alone(self) -> dict[str, tuple[Draws, Draws]]:
        """Task -> the accuracies of A and of B."""
        files = [[self.read(side)] for side in "AB"]
        return {task.name: tuple(self.accuracy(task, one) for one in files) for task in self.tasks}

    @cached_property
    def apart(self) -> dict[str, list[float]]:
        """Task -> B's accuracy minus A's, with its interval."""
        return {name: interval(b - a) for name, (a, b) in self.alone.items()}

    @cached_property
    def better(self) -> dict[str, str]:
        """Task -> whose encoder is better there and above chance, by intervals: "speech" (A), "music" (B), or ""."""
        found = {}
        for task in self.tasks:
            a, b = (interval(draws)[1] > task.chance for draws in self.alone[task.name])
            _, low, high = self.apart[task.name]
            found[task.name] = "music" if low > 0 and b else "speech" if high < 0 and a else ""
        return found

    def counting(self, domain: str) -> list[Task]:
        """The tasks of a domain on which its own encoder is the better one."""
        return [task for task in self.tasks if self.better[task.name] == domain == task.domain]

    @property
    def asked(self) -> list[str]:
        """The tasks that merges are asked: those on which either encoder is the better one."""
        return [name for name, side in self.better.items() if side]

    def scores(self, files: Sequence[Mapping[str, Any]]) -> dict[str, Draws]:
        """The measures of a model."""
        found: dict[str, Draws] = {}
        for domain in ("speech", "music"):
            ratios = [self.accuracy(task, files) / self.references[task.name] for task in self.counting(domain)]
            found[domain] = 1000 * np.mean(ratios, axis=0)
        found["average"] = (found["speech"] + found["music"]) / 2
        gaps = self.counting("music")
        gone = sum(self.accuracy(task, files) - self.alone[task.name][0] for task in gaps)
        whole = sum(self.alone[task.name][1] - self.alone[task.name][0] for task in gaps)
        found[TRANSFER] = 1000 * np.divide(gone, whole, out=np.zeros_like(whole), where=whole > 0)
        return found

    def described(self, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Accuracies and scores of a model with their intervals."""
        scores = {name: interval(draws) for name, draws in self.scores(files).items()}
        done = [task for task in self.tasks if task.name in files[0]["right"]]
        return scores | {"tasks": {task.name: interval(self.accuracy(task, files)) for task in done}}

    @cached_property
    def cells(self) -> dict[tuple[str, float], list[dict[str, Any]]]:
        """(row, weight) -> its files, one for each of a control's seeds."""
        found: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for path in sorted(self.folder.glob("*@*.json")):
            one = json.loads(path.read_text())
            found.setdefault((one["row"], one["weight"]), []).append(one)
        return found

    def best(self, row: str) -> tuple[float, Tree]:
        """The row's best weight, and its scores there beside those of `linear` at its own and of A."""
        weights = sorted(weight for name, weight in self.cells if name == row)
        own, linear = (self._stacked(name, w) for name, w in ((row, weights), ("linear", None)))
        at, there = (np.argmax(side["average"], axis=0) for side in (own, linear))
        pick = np.arange(DRAWS + 1)
        found: Tree = {name: own[name][at, pick] for name in SCORES}
        found["minus_linear"] = {name: found[name] - linear[name][there, pick] for name in SCORES}
        alone = self.scores([self.read("A")])
        found["minus_a"] = {name: found[name] - alone[name] for name in SCORES}
        mine, theirs = transferred(own), transferred(linear)
        found |= {"transferred": mine, "transferred_minus_linear": mine - theirs}
        return weights[at[0]], found

    def difference(self, row: str, other: str, weight: float) -> Tree:
        """A row minus another at the same weight, or minus one encoder."""
        own, beside = (self.scores(self.cells[one]) for one in ((row, weight), (other, ALONE.get(other, weight))))
        return {score: own[score] - beside[score] for score in own}

    def _stacked(self, row: str, weights: Sequence[float] | None) -> dict[str, Draws]:
        weights = weights or sorted(weight for name, weight in self.cells if name == row)
        each = [self.scores(self.cells[row, weight]) for weight in weights]
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def row(self, name: str) -> dict[str, Any]:
        """All weights of a row, each with its difference from `linear` at the same weight."""
        points = []
        for weight in sorted(w for n, w in self.cells if n == name):
            files = self.cells[name, weight]
            point = {"weight": weight, "seeds": len(files), **self.described(files)}
            if ("linear", weight) in self.cells and name != "linear":
                point["minus_linear"] = intervals(self.difference(name, "linear", weight))
            points.append(point)
        weight, best = self.best(name)
        best = {"weight": weight, "transferred_at": transferred_at(points), **intervals(best)}
        return {"name": name, "points": points, "best": best}

    def contrasts(self) -> list[dict[str, Any]]:
        """At every weight, a row minus a control."""
        found = []
        for row, control in CONTRASTS:
            for weight in sorted(w for name, w in self.cells if name == row):
                if (control, ALONE.get(control, weight)) in self.cells:
                    differences = intervals(self.difference(row, control, weight))
                    found.append({"row": row, "control": control, "weight": weight, **differences})
        return found

    def result(self) -> dict[str, Any]:
        """Everything that the page shows of this pair."""
        done = {row for row, _ in self.cells}
        cells = [one for files in self.cells.values() for one in files]
        cpu = {name: sum(one.get(key, 0) for one in cells) for name, key in CPU.items()}
        rows = [{"title": row.title, "family": row.family, **self.row(row.name)} for row in ROWS if row.name in done]
        about = self.read("about") | {"models": len(cells)} | {name: round(x / 60, 1) for name, x in cpu.items()}
        extras = {name: self.read(name) for name in ("layers",) if (self.folder / f"{name}.json").exists()}
        proofs = [json.loads(path.read_text()) for path in self.folder.glob("certificates-*.json")]
        if proofs:
            about["certified"] = sum(one["certified"] for one in proofs)
            about["worst_certificate"] = max(one["worst"] for one in proofs)
        return {
            "about": about,
            "tasks": [self._task(task) for task in self.tasks],
            "A": self.described([self.read("A")]),
            "B": self.described([self.read("B")]),
            **({"AB": self.described([self.read("AB")])} if (self.folder / "AB.json").exists() else {}),
            "rows": rows,
            "contrasts": self.contrasts(),
            **extras,
        }

    def _task(self, task: Task) -> dict[str, Any]:
        counts = {"classes": task.classes, "tested": int(task.test.sum()), "fitted": task.fitted}
        about = {"name": task.name, "title": task.title, "domain": task.domain, "apart": self.apart[task.name]}
        about |= {"better": self.better[task.name], "counts": self.better[task.name] == task.domain}
        return about | counts | {"groups": len(np.unique(task.groups[task.test])), "chance": round(task.chance, 4)}
