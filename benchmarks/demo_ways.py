"""Which alignment is best for the two encoders of `make demo`? Scores of the linear merge by how B is moved.

The demo's encoders, clips and probes. Writes `benchmarks/results/demo_ways.json`; `benchmarks/tables.py` says which
scores differ from those of permutations by more than noise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import permgraph as pg
from benchmarks.measured_with import measured_with
from permgraph.demo.demo import ASSETS, NOTABLE, tested
from permgraph.demo.merges import WEIGHTS, merged_scores
from permgraph.demo.probes import load_probes

RESULT = Path(__file__).parent / "results" / "demo_ways.json"
STEPS = 40
WAYS: dict[str, Mapping[str, Any] | None] = {
    "plain average": None,
    "permutations": {"method": "correlation"},
    "all kinds": {"method": "correlation", "kinds": "all"},
    f"all kinds, learned in {STEPS} steps": {"method": "learned", "kinds": "all", "steps": STEPS},
}


def main() -> None:
    torch.set_num_threads(1)
    a, b = (pg.load(str(ASSETS / name)) for name in ("speech", "music"))
    clips, probes, rows = list(a.calibration(ASSETS / "clips" / "calibration", seed=0)), load_probes(), []
    for way, options in WAYS.items():
        start = time.process_time()
        found = None if options is None else pg.align(a.model, b.model, clips, **options)
        seconds = time.process_time() - start
        merged = {weight: pg.merge(a.model, b.model, alignment=found, weight=weight) for weight in WEIGHTS}
        scores = {f"{weight:g}": merged_scores(a.model, state, probes) for weight, state in merged.items()}
        rows.append({"way": way, "seconds": seconds, "scores": scores})
        print(rows[-1], flush=True)
    known = {"tested": {probe.name: tested(probe) for probe in probes}, "notable": NOTABLE, "measured": measured_with()}
    RESULT.write_text(json.dumps({**known, "rows": rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
