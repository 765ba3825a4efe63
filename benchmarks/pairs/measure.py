"""What is lost between two models of one task, by how B is moved and how the two are merged.

    nice python -m benchmarks.pairs.train
    pip install --no-deps --target DIR rebasin==0.0.47 torchview graphviz
    nice python -m benchmarks.pairs.measure [--peers DIR] [ARCHITECTURE ...]

Every pair of the trained models; losses on held-out data that no method sees. The ends of every curve are the two
models as trained, also where a peer breaks the one it moves. Writes `benchmarks/results/pairs_*.json`; resumable.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.pairs.aligners import Aligner, Batches, PeerError, aligners, function_error, loaded
from benchmarks.pairs.models import RECIPES, SEEDS, Recipe, class_loss
from benchmarks.pairs.train import trained
from permgraph.merging.merge import Merges

RESULTS = Path(__file__).parents[1] / "results"
MERGES = ("linear", "repair", "regmean", "pleas", "refit")
WEIGHTS = (0.5,)
BATCHES, BATCH, TEST = 6, 128, 2000  # images; a text is as long as 4 of them
TEXT = 4


def is_text(name: str) -> bool:
    """Whether an architecture reads texts."""
    return RECIPES[name].loss is not class_loss


def inputs(name: str) -> tuple[Batches, tuple[Tensor, Tensor]]:
    """Batches of the training set for calibration, and inputs and targets of the test set."""
    data, part = RECIPES[name].data(), TEXT if is_text(name) else 1
    chosen = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(0))
    size = BATCH // part
    batches = [data.train_x[chosen[k * size : (k + 1) * size]] for k in range(BATCHES)]
    return batches, (data.test_x[: TEST // part], data.test_y[: TEST // part])


def measured(name: str, pair: tuple[int, int], ways: dict[str, Aligner]) -> Iterator[list[dict[str, Any]]]:
    """For every way to move, a row for every way to merge."""
    recipe = RECIPES[name]
    batches, test = inputs(name)
    a, b = (trained(name, seed) for seed in pair)
    ends = judged(recipe, b, *test), judged(recipe, a, *test)
    for way, align in ways.items():
        row: dict[str, Any] = {"architecture": name, "pair": list(pair), "aligned": way}
        start = time.process_time()
        try:
            moved = align(a, b, batches)
        except PeerError as reason:
            yield [row | {"failure": str(reason)}]
            continue
        row |= {"seconds": time.process_time() - start, "function_error": function_error(moved, b, test[0][:64])}
        row |= {"similarity": similarity(a, moved)}
        rows = [row | one for one in merges(recipe, a, moved, batches, test, ends)]
        print(name, pair, way, {row["merged"]: round(row["height"], 3) for row in rows}, flush=True)
        yield rows


def similarity(a: nn.Module, b: nn.Module) -> float:
    """The cosine of all weights of A with all of B: what weight matching makes as large as it can."""
    with torch.no_grad():
        x, y = (torch.cat([p.flatten().double() for p in model.parameters()]) for model in (a, b))
    return (x @ y / (x.norm() * y.norm())).item()


def merges(
    recipe: Recipe,
    a: nn.Module,
    moved: nn.Module,
    batches: Batches,
    test: tuple[Tensor, Tensor],
    ends: tuple[tuple[float, float], tuple[float, float]],
) -> list[dict[str, Any]]:
    """A row for each merge of A with B moved."""
    mixture, rows = Merges(a, moved, data=batches), []
    for method in MERGES:
        inner = [judged(recipe, loaded(a, mixture.at(weight, method)), *test) for weight in WEIGHTS]
        losses, hits = zip(ends[0], *inner, ends[1], strict=True)
        curve = pg.Barrier((0.0, *WEIGHTS, 1.0), losses, hits)
        middle = WEIGHTS.index(0.5) + 1
        rows.append(
            {
                "merged": method,
                "weights": curve.weights,
                "losses": losses,
                "accuracies": hits,
                "height": curve.height,
                "middle": hits[middle],
            }
        )
    return rows


def judged(recipe: Recipe, model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy."""
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(250)])
    return recipe.loss(logits, y).item(), recipe.hits(logits, y)


def kept_rows(path: Path) -> list[dict[str, Any]]:
    """What was measured before."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECIPES))
    parser.add_argument("--peers", default="", help="the folder that rebasin is installed in; absent: left out")
    parser.add_argument("--ways", nargs="*", help="how to move B; all by default, and they may run side by side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"torch": torch.__version__, "test": TEST, "text": TEXT, "calibration": BATCHES * BATCH}
    for name in options.names:
        path = RESULTS / f"pairs_{name}.json"
        for pair in combinations(SEEDS, 2):
            done = {row["aligned"] for row in kept_rows(path) if row["pair"] == list(pair)}
            known = aligners(options.peers)
            ways = {way: known[way] for way in known if way in (options.ways or known) and way not in done}
            for rows in measured(name, pair, ways):
                new = [row | {"measured": measured_with()} for row in rows]
                path.write_text(json.dumps({**settings, "rows": kept_rows(path) + new}, indent=0) + "\n")


if __name__ == "__main__":
    main()
