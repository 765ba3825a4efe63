"""Can eight networks become one? madmom's ensemble for onsets, its networks merged by `match_many`.

    python -m benchmarks.madmom.clips                         # and what its docstring says
    nice python -m benchmarks.madmom.measure

The reference is what the ensemble does: the mean of its networks' outputs on clips of real music, without labels.
*Correlation*: of the output with the ensemble's, over all frames of the test clips. *Onsets*: the F-measure of peaks
above THRESHOLD against the ensemble's peaks, TOLERANCE frames of 10 ms apart at most. Calibration uses other clips, in
segments of SEGMENT frames: inside the stack, units are seen in the last state of each.
Writes `benchmarks/results/madmom.json`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import permgraph as pg
from benchmarks.madmom.network import COUNT, DATA, INPUTS, Onsets, network
from benchmarks.measured_with import measured_with

RESULT = Path(__file__).parents[1] / "results" / "madmom.json"
THRESHOLD, TOLERANCE, SEGMENT, BATCH = 0.3, 2, 100, 20
WAYS: tuple[dict[str, Any], ...] = (
    {"method": "weights"},
    {"method": "correlation"},
    {"mix": 0.5},
)
KINDS = ("permutation", "signed")


def peaks(output: Tensor) -> Tensor:
    """Frames [n] of local maxima above THRESHOLD."""
    inner = output[1:-1]
    found: Tensor = ((inner > output[:-2]) & (inner >= output[2:]) & (inner > THRESHOLD)).nonzero().flatten() + 1
    return found


def f_measure(wanted: Tensor, found: Tensor) -> float:
    """The share of the peaks of both sides that have one of the other side close to them, clip by clip."""
    hits = total = 0.0
    for one, other in zip(wanted, found, strict=True):
        a, b = peaks(one), peaks(other)
        close = (a[:, None] - b[None]).abs() <= TOLERANCE
        hits += (close.any(1).sum() + close.any(0).sum()).item() if close.numel() else 0
        total += len(a) + len(b)
    return hits / total if total else 1.0


def outputs(model: nn.Module, clips: Tensor) -> Tensor:
    """[clips, frames] between 0 and 1."""
    with torch.no_grad():
        found: Tensor = model(clips).sigmoid()
    return found


def figures(wanted: Tensor, found: Tensor) -> dict[str, float]:
    """How near an output is to the ensemble's."""
    correlation = np.corrcoef(wanted.flatten().numpy(), found.flatten().numpy())[0, 1]
    return {"correlation": float(correlation), "onsets": f_measure(wanted, found)}


def main() -> None:
    torch.set_num_threads(1)
    known = np.load(DATA / "features.npz")
    clips, own = torch.from_numpy(known["inputs"]), torch.from_numpy(known["outputs"])
    calibration, test, wanted = clips[::2], clips[1::2], own[1::2].mean(1)
    models = [network(number) for number in range(COUNT)]
    error = max((outputs(model, test) - own[1::2, k]).abs().max().item() for k, model in enumerate(models))
    rows: list[dict[str, Any]] = []

    def row(name: str, found: Tensor, **more: Any) -> None:
        rows.append({"name": name, **figures(wanted, found), **more})
        print(rows[-1], flush=True)

    alone = [figures(wanted, outputs(model, test)) for model in models]
    rows.append(
        {
            "name": "one network alone, mean of all",
            **{key: float(np.mean([one[key] for one in alone])) for key in alone[0]},
        }
    )
    merged = Onsets().eval()

    def averaged(elements: list[Any], spec: pg.PermutationSpec) -> Tensor:
        merged.load_state_dict(pg.merge_many(models, elements, spec=spec))
        return outputs(merged, test)

    batches = list(calibration.reshape(-1, SEGMENT, INPUTS).split(BATCH))
    for kinds in KINDS:
        spec = pg.derive(models[0], (batches[0],), kinds=kinds)
        if kinds == KINDS[0]:
            row("plain average of the weights", averaged([spec.identity()] * COUNT, spec))
        for way in WAYS:
            start = time.process_time()
            placed = pg.match_many(models, batches, args=(batches[0],), kinds=kinds, **way)
            taken, name = time.process_time() - start, way.get("method", "mix")
            worst = max(one.certificate.max_error for one in placed[1:] if one.certificate is not None)
            row(f"{kinds}, {name}", averaged(list(placed), spec), seconds=taken, max_error=worst)
    settings = {
        "networks": COUNT,
        "clips": [len(calibration), len(test)],
        "frames": clips.shape[1],
        "port_error": error,
    }
    settings |= {"parameters": sum(p.numel() for p in models[0].parameters()), "threshold": THRESHOLD}
    result = {**settings, "measured": measured_with(), "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
