"""What is lost between two models of one task, by how B is moved and how the two are merged.

    nice python -m benchmarks.pairs.train
    pip install --no-deps --target DIR rebasin==0.0.47 torchview graphviz
    nice python -m benchmarks.pairs.measure [--peers DIR] [ARCHITECTURE ...]

Every pair of the trained models; losses on held-out data that no method sees. The ends of every curve are the two
models as trained, also where a peer breaks the one it moves. Writes `benchmarks/results/pairs.json`; resumable.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import permgraph as pg
from benchmarks.pairs.aligners import Batches, PeerError, aligners, function_error, loaded
from benchmarks.pairs.models import RECIPES, SEEDS, Recipe
from benchmarks.pairs.train import trained
from permgraph.merging.merge import Mixture

RESULT = Path(__file__).parents[1] / "results" / "pairs.json"
MERGES = ("linear", "repair", "regmean", "pleas", "pleas+repair")
WEIGHTS = (0.25, 0.5, 0.75)
BATCHES, BATCH, TEST = 8, 128, 2000  # images; a text is as long as 4 of them
TEXT = 4


def measured(name: str, pair: tuple[int, int], peers: str) -> list[dict[str, Any]]:
    """A row for every way to move and to merge."""
    recipe = RECIPES[name]
    data, part = recipe.data(), TEXT if name == "gpt2" else 1
    chosen = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(0))
    size = BATCH // part
    batches = [data.train_x[chosen[k * size : (k + 1) * size]] for k in range(BATCHES)]
    test = data.test_x[: TEST // part], data.test_y[: TEST // part]
    a, b = (trained(name, seed) for seed in pair)
    ends = judged(recipe, b, *test), judged(recipe, a, *test)
    rows = []
    for way, align in aligners(peers, name != "mlp").items():
        row: dict[str, Any] = {"architecture": name, "pair": list(pair), "aligned": way}
        start = time.process_time()
        try:
            moved = align(a, b, batches)
        except PeerError as reason:
            rows.append(row | {"failure": str(reason)})
            continue
        row |= {"seconds": time.process_time() - start, "function_error": function_error(moved, b, test[0][:64])}
        rows += [row | one for one in merges(recipe, a, moved, batches, test, ends)]
        print(name, pair, way, {r["merged"]: round(r["height"], 3) for r in rows if r["aligned"] == way}, flush=True)
    return rows


def merges(
    recipe: Recipe,
    a: nn.Module,
    moved: nn.Module,
    batches: Batches,
    test: tuple[Tensor, Tensor],
    ends: tuple[tuple[float, float], tuple[float, float]],
) -> list[dict[str, Any]]:
    """A row for each merge of A with B moved."""
    mixture, rows = Mixture(a, moved, data=batches), []
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECIPES))
    parser.add_argument("--peers", default="", help="the folder that rebasin is installed in; absent: left out")
    parser.add_argument("--pairs", type=int, default=None, help="at most so many pairs; nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        for pair in list(combinations(SEEDS, 2))[: options.pairs]:
            result = json.loads(RESULT.read_text()) if RESULT.exists() else {"rows": []}
            done = {(row["architecture"], *row["pair"]) for row in result["rows"]}
            if (name, *pair) in done and options.pairs is None:
                continue
            rows = measured(name, pair, options.peers)
            if options.pairs is None:
                settings = {"torch": torch.__version__, "test": TEST, "text": TEXT, "calibration": BATCHES * BATCH}
                RESULT.write_text(json.dumps({**settings, "rows": result["rows"] + rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
