"""How many tags of both parents does a merge of musicnn's two models keep, on real music?

    nice python -m benchmarks.musicnn.measure [musicnn | vgg] [--peers DIR]

A is trained on MagnaTagATune, B on the Million Song Dataset: other tags, so the trunks are merged, and the head of each
parent reads the merged trunk (B's with its inputs moved as B's units are). *Kept*: the share of a parent's five
likeliest tags among the five likeliest of its head on the merged trunk, over patches of tracks that no method sees.
*Constant*: what the five tags that are likeliest on average would keep. Writes `benchmarks/results/musicnn.json` or
`musicnn_vgg.json`; resumable. The two VGGs turn out to be two architectures, which cannot be aligned.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.musicnn.music import PACKAGES, music
from benchmarks.musicnn.network import ARCHITECTURES, pretrained
from benchmarks.musicnn.reference import RESULT as REFERENCE, pattern
from benchmarks.pairs.aligners import PeerError, aligners, function_error, loaded
from permgraph.merging.merge import Merges

RESULTS = Path(__file__).parents[1] / "results"
PER_TRACK = 2, 2  # patches for calibration and for testing
WEIGHTS = (0.25, 0.5, 0.75)
MERGES = ("linear", "repair", "refit")
TOP = 5
WAYS = ("plain average", "weights", "correlation", "mix", "rebasin")


def logits(model: nn.Module, heads: dict[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """[patches, 50] of each head on the trunk of a model."""
    with torch.no_grad():
        inner = torch.cat([trunk(model, part) for part in x.split(11)])
        return {name: head(inner) for name, head in heads.items()}


def trunk(model: nn.Module, x: Tensor) -> Tensor:
    """What the head reads."""
    found: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda module, given: found.append(given[0]))
    model(x)
    hook.remove()
    return found[0]


def agreement(wanted: Tensor, found: Tensor) -> dict[str, float]:
    """Share of the likeliest tags kept, and the mean over tags of the correlation of logits over patches."""
    top, other = (x.topk(TOP).indices for x in (wanted, found))
    kept = (top.unsqueeze(2) == other.unsqueeze(1)).any(2).float().mean().item()
    a, b = (x - x.mean(0) for x in (wanted, found))
    correlation = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-12)
    return {"kept": kept, "correlation": correlation.mean().item()}


def result(architecture: str) -> Path:
    """Where its rows are written."""
    return RESULTS / ("musicnn.json" if architecture == "musicnn" else f"musicnn_{architecture}.json")


def reference(architecture: str) -> dict[str, float]:
    """The largest difference of the port's logits from TensorFlow's, relative to the largest logit."""
    found = {}
    for training, wanted in json.loads(REFERENCE.read_text())["logits"][architecture].items():
        with torch.no_grad():
            got = pretrained(architecture, training)(torch.from_numpy(pattern()))
        found[training] = ((got - torch.tensor(wanted)).abs().max() / torch.tensor(wanted).abs().max()).item()
    return found


def rows_of(way: str, align: Any, a: Any, b: Any, batches: list[Tensor], test: Tensor) -> list[dict[str, Any]]:
    """A row for every merge and share."""
    start = time.process_time()
    try:
        moved = align(a, b, batches)
    except (PeerError, pg.SpecMismatchError) as reason:
        return [{"aligned": way, "failure": str(reason)}]
    row = {"aligned": way, "seconds": time.process_time() - start, "function_error": function_error(moved, b, test[:4])}
    wanted = {"A": logits(a, {"A": a.head}, test)["A"], "B": logits(b, {"B": b.head}, test)["B"]}
    mixture, rows = Merges(a, moved, data=batches), []
    for method in MERGES:
        for weight in WEIGHTS:
            merged = loaded(a, mixture.at(weight, method))
            got = logits(merged, {"A": a.head, "B": moved.head}, test)
            kept = {side: agreement(wanted[side], got[side]) for side in wanted}
            rows.append({**row, "merged": method, "weight": weight, **kept})
            print(way, method, weight, {side: round(one["kept"], 3) for side, one in kept.items()}, flush=True)
    return rows


def kept_rows(path: Path) -> list[dict[str, Any]]:
    """What was measured before."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", nargs="?", default="musicnn", choices=list(ARCHITECTURES))
    parser.add_argument("--peers", default="", help="the folder that rebasin is installed in; absent: left out")
    parser.add_argument("--ways", nargs="*", default=WAYS, help="how to move B; ways may run side by side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    calibration, test = music(*PER_TRACK)
    batches = [part for part in calibration.split(11) if len(part) == 11]
    path = result(options.architecture)
    a, b = (pretrained(options.architecture, training) for training in ("MTT", "MSD"))
    own = {"A": logits(a, {"A": a.head}, test)["A"], "B": logits(b, {"B": b.head}, test)["B"]}
    settings = {
        "torch": torch.__version__, "packages": PACKAGES, "calibration": 11 * len(batches), "test": len(test),
        "top": TOP, "reference": reference(options.architecture), "parameters": sum(p.numel() for p in a.parameters()),
        "constant": {side: agreement(x, x.mean(0, keepdim=True).expand_as(x))["kept"] for side, x in own.items()},
    }  # fmt: skip
    known = aligners(options.peers)
    for way in options.ways:
        if way in known and way not in {row["aligned"] for row in kept_rows(path)}:
            rows = [row | {"measured": measured_with()} for row in rows_of(way, known[way], a, b, batches, test)]
            path.write_text(json.dumps({**settings, "rows": kept_rows(path) + rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
