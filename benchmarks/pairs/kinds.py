"""What is lost between two transformers of one task when rotations, invertible maps and scales are matched too.

    nice python -m benchmarks.pairs.train vit gpt2 llama bert
    nice python -m benchmarks.pairs.kinds [ARCHITECTURE ...] [--rows ROW ...]
    nice python -m benchmarks.pairs.train vit-128 vit-256 gpt2-128 gpt2-256 --seeds 0 1
    nice python -m benchmarks.pairs.kinds vit-128 vit-256 gpt2-128 gpt2-256 --rows plain permutations weights learned

Rows differ by how B is moved, how many inputs that takes, and how the two are merged half way. Inputs are of the
training set, without labels. Writes `benchmarks/results/kinds_*.json` row by row; resumable.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.pairs.aligners import loaded
from benchmarks.pairs.measure import BATCH, BATCHES, RESULTS, TEST, TEXT, inputs, is_text, judged, kept_rows
from benchmarks.pairs.models import RECIPES, SEEDS
from benchmarks.pairs.train import file_of, trained
from permgraph.symmetry.derivation.folding import separated

NAMES = ("vit", "gpt2", "llama", "bert")
SYNTHETIC = "synthetic"
FEW = 100
STEPS, LONG, HEALING = 300, 600, 100
MIX = 0.5


@dataclass(frozen=True)
class Way:
    """How B is moved and the two are merged.

    Attributes:
        kinds: "none", "permutation" or "all".
        method: the matcher.
        inputs: how many inputs it sees; None is the whole training set, SYNTHETIC are inputs that need no data.
        merged: "linear", "refit", or "heal": the linear merge, distilled.
        healing: in how many steps.
        begun: the row at whose alignment learning begins; "": at the default.
        rate: of learning; None: the default.
        steps: of learning.
        batch: how many inputs it sees at a time; 0: as many as all rows do.

    """

    kinds: str
    method: str = ""
    inputs: int | str | None = 0
    merged: str = "linear"
    healing: int = HEALING
    begun: str = ""
    rate: float | None = None
    steps: int = STEPS
    batch: int = 0


SOME = BATCH * BATCHES
FROM_WEIGHTS: dict[str, Any] = {"begun": "weights", "rate": 1e-2}
ROWS = {
    "plain": Way("none"),
    "permutations": Way("permutation", "weights"),
    "permutations-correlation": Way("permutation", "correlation", SOME),
    "weights": Way("all", "weights"),
    "correlation": Way("all", "correlation", SOME),
    "mix": Way("all", "mix", SOME),
    "learned": Way("all", "learned", None),
    "learned-long": Way("all", "learned", None, steps=LONG),
    "learned-some": Way("all", "learned", SOME),
    "learned-from-weights": Way("all", "learned", None, **FROM_WEIGHTS),
    "learned-some-from-weights": Way("all", "learned", SOME, **FROM_WEIGHTS),
    "plain-heal": Way("none", merged="heal"),
    "weights-heal": Way("all", "weights", merged="heal"),
    "learned-heal": Way("all", "learned", None, merged="heal"),
    "learned-heal-from-weights": Way("all", "learned", None, merged="heal", **FROM_WEIGHTS),
    "plain-heal-long": Way("none", merged="heal", healing=STEPS + HEALING),
    "weights-heal-long": Way("all", "weights", merged="heal", healing=STEPS + HEALING),
    "plain-refit": Way("none", merged="refit"),
    "permutations-correlation-refit": Way("permutation", "correlation", SOME, "refit"),
    "weights-refit": Way("all", "weights", merged="refit"),
    "learned-refit": Way("all", "learned", None, merged="refit"),
    "learned-refit-from-weights": Way("all", "learned", None, merged="refit", **FROM_WEIGHTS),
    "correlation-few": Way("all", "correlation", FEW),
    "learned-few": Way("all", "learned", FEW),
    "learned-few-from-weights": Way("all", "learned", FEW, **FROM_WEIGHTS),
    "learned-by-16": Way("all", "learned", None, batch=16),
    "learned-by-4": Way("all", "learned", None, batch=4),
    "correlation-synthetic": Way("all", "correlation", SYNTHETIC),
    "learned-synthetic": Way("all", "learned", SYNTHETIC),
    "plain-synthetic-heal": Way("none", inputs=SYNTHETIC, merged="heal"),
    "learned-synthetic-heal": Way("all", "learned", SYNTHETIC, merged="heal"),
}


class Pair:
    """Two models, what they are compared on, and the alignments that several rows share."""

    def __init__(self, name: str, pair: tuple[int, int]) -> None:
        self.name, self.pair = name, pair
        self.a, self.b = (trained(name, seed) for seed in pair)
        self.batches, self.test = inputs(name)
        self.known: dict[tuple[Any, ...], tuple[pg.Alignment, float]] = {}

    def row(self, way: Way) -> dict[str, Any]:
        """One merge, and what it took."""
        alignment, seconds = self.aligned(way)
        state, merging = timed(lambda: self.merge(way, alignment))
        recipe = RECIPES[self.name]
        losses, hits = zip(
            judged(recipe, self.b, *self.test),
            judged(recipe, with_weights(self.a, alignment, state), *self.test),
            judged(recipe, self.a, *self.test),
            strict=True,
        )
        curve = pg.Barrier((0.0, 0.5, 1.0), losses, hits)
        found = {"pair": list(self.pair), "losses": losses, "accuracies": hits, "height": curve.height}
        found |= {"middle": hits[1], "seconds": seconds, "merge_seconds": merging}
        if alignment is not None:
            found["max_error"] = alignment.certificate.max_error
            found["steps"] = len(alignment.descent.losses) if alignment.descent else 0
        if alignment is not None and way.method == "learned" and way.merged == "linear":
            found["parts"] = self.parts(alignment, losses[-1])
        return found

    def parts(self, alignment: pg.Alignment, own: float) -> dict[str, float]:
        """Part of the model -> by how much the loss is above A's where this part alone is merged, half way."""
        roles = dict.fromkeys(group.role.partition(".")[0] for group in alignment.spec.groups)
        found = {}
        for role in roles:
            state = pg.merge(self.a, self.b, alignment=alignment, weight={role: 0.5, "default": 1.0})
            net = with_weights(self.a, alignment, state)
            found[role] = judged(RECIPES[self.name], net, *self.test)[0] - own
        return found

    def aligned(self, way: Way) -> tuple[pg.Alignment | None, float]:
        """The alignment of a way, with the CPU seconds of its first computation."""
        if way.kinds == "none":
            return None, 0.0
        key = way.kinds, way.method, way.inputs, way.begun, way.steps, way.batch
        if key not in self.known:
            self.known[key] = timed(lambda: self.align(way))
        return self.known[key]

    def align(self, way: Way) -> pg.Alignment:
        """B moved to A."""
        data = None if way.inputs == 0 else self.data(way.inputs)
        if data is not None and way.batch:
            data = [part for batch in data for part in batch.split(way.batch)]
        options: dict[str, Any] = {"steps": way.steps} if way.method == "learned" else {}
        options |= {} if way.rate is None else {"rate": way.rate}
        options |= {"start": self.aligned(ROWS[way.begun])[0]} if way.begun else {}
        example = (self.batches[0][:2],)
        options |= {"mix": MIX} if way.method == "mix" else {"method": way.method}
        return pg.align(self.a, self.b, data, args=example, kinds=way.kinds, **options)

    def merge(self, way: Way, alignment: pg.Alignment | None) -> dict[str, Tensor]:
        """The two half way."""
        data = chosen(self.name, SOME)
        if way.merged != "heal":
            return pg.merge(self.a, self.b, alignment=alignment, method=way.merged, data=data)
        state = pg.merge(self.a, self.b, alignment=alignment)
        parents = [with_weights(model, alignment, None) for model in (self.a, self.b)]
        return pg.heal(state, *parents, self.data(SYNTHETIC if way.inputs == SYNTHETIC else None), steps=way.healing)

    def data(self, inputs: int | str | None) -> Sequence[Any]:
        """So many inputs of the training set as batches, the whole of it for None, or synthetic ones."""
        if not isinstance(inputs, str):
            return chosen(self.name, inputs)
        size = BATCH // (TEXT if is_text(self.name) else 1)
        return pg.synthetic([self.a, self.b], args=(self.batches[0][:2],), batch_size=size)


def with_weights(model: nn.Module, alignment: pg.Alignment | None, state: dict[str, Tensor] | None) -> nn.Module:
    """A copy of a model, untied as the alignment is, with these weights or its own."""
    other = separated(model, () if alignment is None else alignment.untied)
    return loaded(other, other.state_dict() if state is None else state)


def chosen(name: str, count: int | None) -> Sequence[Tensor]:
    """Batches of so many inputs of the training set, the whole of it for None; a text counts as TEXT of them."""
    data = RECIPES[name].data().train_x
    part = TEXT if is_text(name) else 1
    size, order = BATCH // part, torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data[order[: len(data) // size * size if count is None else count // part]].split(size)


def timed(work: Any) -> tuple[Any, float]:
    """What `work` returns, and its CPU seconds."""
    start = time.process_time()
    return work(), time.process_time() - start


def asked(about: str | None, rows: Iterable[str]) -> argparse.Namespace:
    """Which architectures, rows and seeds the command line asks for; all by default."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--rows", nargs="*", default=list(rows), choices=list(rows))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS), help="of the models that are paired")
    return parser.parse_args()


def main() -> None:
    options = asked(__doc__, ROWS)
    torch.set_num_threads(1)
    settings = {"torch": torch.__version__, "test": TEST, "text": TEXT, "some": SOME, "few": FEW}
    settings |= {"steps": STEPS, "healing": HEALING}
    pairs = [
        (name, pair, Pair(name, pair))
        for pair in combinations(options.seeds, 2)
        for name in options.names
        if all(file_of(name, seed).exists() for seed in pair)
    ]
    for key in options.rows:
        for name, pair, two in pairs:
            path = RESULTS / f"kinds_{name}.json"
            if any(row["row"] == key and row["pair"] == list(pair) for row in kept_rows(path)):
                continue
            way = ROWS[key]
            row = {"row": key, "kinds": way.kinds, "method": way.method, "inputs": way.inputs}
            row |= {"merged": way.merged, "healing": way.healing, "begun": way.begun, "asked": way.steps}
            row |= {"batch": way.batch} | two.row(way)
            row |= {"measured": measured_with()}
            print(name, pair, key, *(round(row[figure], 3) for figure in ("height", "middle", "seconds")), flush=True)
            rows = sorted([*kept_rows(path), row], key=lambda one: (list(ROWS).index(one["row"]), one["pair"]))
            settings["passes"] = RECIPES[name].epochs
            path.write_text(json.dumps({**settings, "rows": rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
