"""Loss and accuracy along the way between the first two models of each architecture, and the pictures of both.

    nice python -m benchmarks.pairs.curves [ARCHITECTURE ...]
    python -m benchmarks.pairs.curves --draw                    # from what is measured

Writes `benchmarks/results/curves.json` and `docs/pictures/pairs_*.svg`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import matplotlib
import torch

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.pairs.aligners import aligners
from benchmarks.pairs.measure import RESULTS, inputs, judged
from benchmarks.pairs.models import RECIPES
from benchmarks.pairs.train import trained
from permgraph.merging.barrier import plot_barriers

RESULT = RESULTS / "curves.json"
PICTURES = RESULTS.parents[1] / "docs" / "pictures"
WAYS = (("plain average", "linear"), ("weights", "linear"), ("correlation", "linear"), ("correlation", "refit"))
POINTS = 7


def curves(name: str) -> dict[str, Any]:
    """Way and merge -> weights, losses, accuracies."""
    recipe = RECIPES[name]
    batches, test = inputs(name)
    a, b = trained(name, 0), trained(name, 1)
    found = {}
    for way, method in WAYS:
        moved = aligners("")[way](a, b, batches)
        curve = pg.barrier(
            a, moved, lambda model: judged(recipe, model, *test), weights=POINTS, method=method, data=batches
        )
        found[f"{way}, {method}"] = {
            "measured": measured_with(),
            "weights": curve.weights,
            "losses": curve.losses,
            "accuracies": curve.accuracies,
        }
        print(name, way, method, round(curve.height, 3), flush=True)
    return found


def draw() -> None:
    """A picture for each architecture that was measured."""
    PICTURES.mkdir(exist_ok=True)
    for name, found in json.loads(RESULT.read_text()).items():
        barriers = {
            label: pg.Barrier(*(tuple(one[key]) for key in ("weights", "losses", "accuracies")))
            for label, one in found.items()
        }
        with matplotlib.rc_context({"svg.hashsalt": name}):
            plot_barriers(barriers, title=name).savefig(PICTURES / f"pairs_{name}.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECIPES))
    parser.add_argument("--draw", action="store_true", help="only draw what is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if options.draw else options.names:
        found = curves(name)
        known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        RESULT.write_text(json.dumps(known | {name: found}, indent=0) + "\n")
    draw()


if __name__ == "__main__":
    main()
