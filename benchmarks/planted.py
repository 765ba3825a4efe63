"""Does weight matching find a planted element, where coordinate descent from the identity does not?

Residual MLPs with a narrow input, weights of one standard deviation and no biases; B is A with noise, in units of that
deviation, its hidden units and residual stream in random order. Both searches run on the same pairs. With `--hubert 0`,
HuBERT-base instead: every group, the residual stream included, on one thread; `peak_mb` less `peak_before_mb` is what
matching adds to the two models and the interpreter. Writes `benchmarks/results/planted.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.matching.descent import Descent
from permgraph.matching.objective import Pairing
from permgraph.matching.weights import match_weights

RESULT = Path(__file__).parent / "results" / "planted.json"
SIZES = ((2, 30, 50), (6, 30, 50), (8, 30, 50), (6, 60, 100), (6, 128, 256), (8, 128, 256))
NOISES = (0.0, 0.5, 1.0)


class ResidualMLP(nn.Module):
    def __init__(self, blocks: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(1, width), nn.Linear(width, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for _ in range(blocks)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1) if parameter.dim() > 1 else nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def noisy(state: Mapping[str, Tensor], noise: float) -> dict[str, Tensor]:
    """The weights with normal noise, `noise` times the standard deviation of each tensor."""
    return {
        k: v + noise * v.std(correction=0) * torch.randn_like(v) if noise and v.is_floating_point() else v
        for k, v in state.items()
    }


def share(tables: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """The share of units that are where they belong, averaged over groups."""
    return float(np.mean([(tables[name] == table).mean() for name, table in wanted.items()]))


def residual_row(blocks: int, width: int, hidden: int, noise: float, seeds: int) -> dict[str, object]:
    """Both searches on `seeds` pairs: how many were recovered whole, the mean share of units, and seconds a pair."""
    ours, plain, seconds = [], [], [0.0, 0.0]
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = ResidualMLP(blocks, width, hidden).eval()
        spec = pg.derive(model, (torch.randn(4, 1),))
        a, element = model.state_dict(), spec.sample(seed + 1)
        b, inverse = spec.apply(element, noisy(a, noise)), spec.invert(element)
        start = time.perf_counter()
        ours.append(share(match_weights(spec, spec.groups, a, b).tables, inverse))
        middle = time.perf_counter()
        descent = Descent.of(Pairing.of(spec, spec.groups, a, b))
        plain.append(share(descent.run(spec.identity()).tables, inverse))
        seconds = [seconds[0] + middle - start, seconds[1] + time.perf_counter() - middle]
    row: dict[str, object] = {"blocks": blocks, "width": width, "hidden": hidden, "noise": noise, "pairs": seeds}
    for name, found, taken in (("frank_wolfe", ours, seconds[0]), ("descent_from_identity", plain, seconds[1])):
        recovered = sum(x == 1.0 for x in found)
        row[name] = {
            "recovered": recovered,
            "units": round(float(np.mean(found)), 4),
            "seconds": round(taken / seeds, 3),
        }
    print(json.dumps(row), flush=True)
    return row


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hubert_row(noise: float) -> dict[str, object]:
    """HuBERT-base on one thread: derivation apart, then seconds of the search and the memory it adds."""
    from full_size import TIE, random_model
    from transformers import HubertConfig, HubertModel

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.device("meta"):
        shell = HubertModel(HubertConfig()).eval()
    spec = pg.derive(shell, (), {"input_values": torch.zeros(1, 8000, device="meta")}, outputs="free", tie=TIE)
    a = random_model(0).state_dict()
    torch.manual_seed(5)
    element = spec.sample(1)
    b = spec.apply(element, noisy(a, noise))
    models = sum(t.numel() * t.element_size() for state in (a, b) for t in state.values()) / 2**20
    square = torch.randn(1024, 1024)
    rate = min(_seconds(lambda: square @ square) for _ in range(5))
    before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
    found = match_weights(spec, spec.groups, a, b)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    row: dict[str, object] = {
        "model": "HuBERT-base",
        "noise": noise,
        "groups": len(spec.groups),
        "recovered": share(found.tables, spec.invert(element)),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "gflop_per_s_of_a_product": round(2 * 1.024**3 / rate, 1),
        "models_mb": round(models),
        "peak_before_mb": round(before),
        "peak_mb": round(peak_mb()),
        "objective_over_bound": found.search.objective / found.search.bound,
        "steps": found.search.steps,
        "sweeps": found.search.sweeps,
        "fixed_point": found.search.fixed_point,
        "load": [round(x, 1) for x in os.getloadavg()],
    }
    torch.set_num_threads(threads)
    print(json.dumps(row), flush=True)
    return row


def _seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hubert", type=float, metavar="NOISE", help="HuBERT-base at this noise instead")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if options.hubert is not None:
        rows = {row["noise"]: row for row in result.get("hubert_base", [])} | {
            options.hubert: hubert_row(options.hubert)
        }
        result["hubert_base"] = [rows[noise] for noise in sorted(rows)]
    else:
        result["residual_mlp"] = [residual_row(*size, noise, options.seeds) for size in SIZES for noise in NOISES]
    RESULT.write_text(json.dumps(result | {"torch": torch.__version__, "threads": options.threads}, indent=1) + "\n")


if __name__ == "__main__":
    main()
