"""How fast is one large assignment, and is it the optimum? Correlation matrices solved by permgraph, scipy and lap.

*Noise*: two independent normal samples. *Planted*: B is A in another order, with noise of the given deviation.
*Features*: activations of two perceptrons with one hidden layer of n units, trained from different seeds on
Fashion-MNIST, over its 10,000 test images. All but *noise* are correlations over frames, 256 of them where planted.
Seconds are of processor time on one thread, of matrices in memory; a peer is given the matrix it asks for, its own
copy included. Writes `benchmarks/results/assignments.json`, rows by name, earlier ones kept.

    pip install --no-deps --target DIR lap      # and another DIR with lapx
    python -m benchmarks.assignments --peers DIR DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from benchmarks.measured_with import measured_with
from benchmarks.pairs.data import fashion
from permgraph.assignment.flat import assign

RESULT = Path(__file__).parent / "results" / "assignments.json"
SIZES = (2048, 4096, 8192, 14336)
FRAMES, TRAINED, BATCH = 256, 20_000, 250
PLANTED = (1.0, 8.0)
PEER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import lap, numpy as np
matrix = np.load(sys.argv[2])
start = time.process_time()
found = lap.lapjv(-matrix.astype(np.float64), return_cost=False)[0]
print(time.process_time() - start)
np.save(sys.argv[3], found)
"""


def correlation(a: Tensor, b: Tensor) -> np.ndarray:
    """[n, n] of columns of [frames, n], float32; 0 where a column is constant."""
    for x in (a, b):
        x -= x.mean(0)
        x /= x.norm(dim=0).clamp_min(1e-12)
    return (a.T @ b).numpy()


@cache
def activations(size: int, seed: int) -> Tensor:
    """[10,000, n]: hidden units of a perceptron after one pass over 20,000 images."""
    data = fashion()
    torch.manual_seed(seed)
    hidden, head = nn.Linear(784, size), nn.Linear(size, 10)
    optimizer = torch.optim.AdamW([*hidden.parameters(), *head.parameters()], lr=3e-4)
    for chosen in torch.randperm(len(data.train_x))[:TRAINED].split(BATCH):
        output = head(hidden(data.train_x[chosen].flatten(1)).relu())
        optimizer.zero_grad()
        nn.functional.cross_entropy(output, data.train_y[chosen]).backward()
        optimizer.step()
    with torch.no_grad():
        found: Tensor = hidden(data.test_x.flatten(1)).relu()
    return found


def matrix(kind: str, size: int) -> np.ndarray:
    """A matrix to assign, float32."""
    rng = torch.Generator().manual_seed(size)
    if kind == "noise":
        return torch.randn(size, size, generator=rng).numpy()
    if kind == "features":
        found = correlation(activations(size, 0), activations(size, 1))
        activations.cache_clear()
        return found
    a = torch.randn(FRAMES, size, generator=rng)
    b = a[:, torch.randperm(size, generator=rng)]
    return correlation(a, b + float(kind.split()[-1]) * torch.randn(FRAMES, size, generator=rng))


def timed(solve: Callable[[np.ndarray], np.ndarray], value: np.ndarray) -> tuple[float, np.ndarray]:
    """Processor seconds, and the permutation."""
    start = time.process_time()
    found = solve(value)
    return time.process_time() - start, found


def by_scipy(value: np.ndarray) -> np.ndarray:
    """What scipy finds."""
    return linear_sum_assignment(-value.astype(np.float64))[1]


def by_peer(folder: Path, value: np.ndarray, place: Path) -> tuple[float, np.ndarray]:
    """The same in a process of its own, with the package `lap` of a folder."""
    np.save(place / "matrix.npy", value)
    words = [sys.executable, "-c", PEER, str(folder), str(place / "matrix.npy"), str(place / "found.npy")]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return float(said), np.load(place / "found.npy")


def peer_name(folder: Path) -> str:
    """Its name and version."""
    return next(f"{one.name} {one.version}" for one in distributions(path=[str(folder)]))


def measure(kind: str, size: int, peers: list[Path], place: Path) -> dict[str, Any]:
    """One row: seconds of each, and by how much its sum misses the largest one, relative to it."""
    value = matrix(kind, size)
    runs = {"permgraph": timed(assign, value), f"scipy {scipy.__version__}": timed(by_scipy, value)}
    runs |= {peer_name(folder): by_peer(folder, value, place) for folder in peers}
    units, wide = np.arange(size), value.astype(np.float64)
    sums = {name: float(wide[units, found].sum()) for name, (_, found) in runs.items()}
    most = max(sums.values())
    first = runs["permgraph"][1]
    return {
        "name": f"{kind}, {size}",
        "kind": kind,
        "size": size,
        "seconds": {name: seconds for name, (seconds, _) in runs.items()},
        "missed": {name: (most - value) / abs(most) for name, value in sums.items()},
        "same": {name: float((found == first).mean()) for name, (_, found) in runs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--peers", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []
    rows = {row["name"]: row for row in known}
    for size in options.sizes:
        for kind in ("noise", *(f"planted at {noise:g}" for noise in PLANTED), "features"):
            with tempfile.TemporaryDirectory() as place:
                row = measure(kind, size, options.peers, Path(place))
            rows[row["name"]] = row | {"measured": measured_with()}
            print(row, flush=True)
            data = {"rows": list(rows.values()), "frames": FRAMES, "torch": torch.__version__}
            RESULT.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
