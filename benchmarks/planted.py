"""Does weight matching find a planted element, where coordinate descent from the identity does not?

Residual MLPs with a narrow input, weights of one standard deviation and no biases; B is A with noise, in units of that
deviation, its hidden units and residual stream in random order. All searches run on the same pairs, rebasin with
`--peers DIR`; seconds are of CPU, rebasin's with its start in a process of its own. Large models are in
`large_pairs.py`. Writes `benchmarks/results/planted.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pairs.aligners import PeerError, loaded, rebasin
from torch import Tensor, nn

import permgraph as pg
from permgraph.matching.weights.coordinate_descent import Descent
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.search import match_weights

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from weight_cases import ResidualMLP, recovered

from benchmarks.measured_with import measured_with

RESULT = Path(__file__).parent / "results" / "planted.json"
SIZES = ((2, 30, 50), (6, 30, 50), (8, 30, 50), (6, 60, 100), (6, 128, 256), (8, 128, 256))
NOISES = (0.0, 0.5, 1.0)


def noisy(state: Mapping[str, Tensor], noise: float) -> dict[str, Tensor]:
    """The weights with normal noise, `noise` times the standard deviation of each tensor."""
    return {
        k: v + noise * v.std(correction=0) * torch.randn_like(v) if noise and v.is_floating_point() else v
        for k, v in state.items()
    }


@dataclass(frozen=True)
class Pair:
    """A, and B = the planted element applied to A with noise, which is `unmoved` in A's order."""

    spec: pg.PermutationSpec
    model: nn.Module
    unmoved: dict[str, Tensor]
    b: dict[str, Tensor]
    inverse: pg.Permutations

    @classmethod
    def of(cls, size: Sequence[int], noise: float, seed: int) -> Pair:
        """All of it from one seed."""
        torch.manual_seed(seed)
        model = ResidualMLP(*size).eval()
        spec = pg.derive(model, (torch.randn(4, 1),))
        unmoved, element = noisy(model.state_dict(), noise), spec.sample(seed + 1)
        return cls(spec, model, unmoved, spec.apply(element, unmoved), spec.invert(element))


def by_frank_wolfe(pair: Pair) -> float:
    """Weight matching as it is."""
    found = match_weights(pair.spec, pair.spec.groups, pair.model.state_dict(), pair.b)
    return recovered(found.tables, pair.inverse)


def by_descent(pair: Pair) -> float:
    """Git Re-Basin's coordinate descent from the identity, over our groups."""
    descent = Descent.of(Pairing.of(pair.spec, pair.spec.groups, pair.model.state_dict(), pair.b))
    return recovered(descent.run(pair.spec.identity()).tables, pair.inverse)


def by_rebasin(pair: Pair) -> float:
    """rebasin's own groups and search; where its units come from is read off the weights that it returns."""
    moved = rebasin(pair.model, loaded(pair.model, pair.b), [torch.randn(4, 1)]).state_dict()
    names = ["embed.weight", *(name for name in moved if name.endswith(".0.weight"))]
    homes = [sources(moved[name], pair.unmoved[name]) == np.arange(len(moved[name])) for name in names]
    return float(np.mean([home.mean() for home in homes]))


def sources(moved: Tensor, before: Tensor) -> np.ndarray:
    """For each row the row of `before` with the same values in any order: columns may have moved as well."""
    found: np.ndarray = torch.cdist(moved.sort(1).values, before.sort(1).values).argmin(1).numpy()
    return found


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def residual_row(
    size: Sequence[int], noise: float, seeds: int, searches: Mapping[str, Callable[[Pair], float]]
) -> dict[str, object]:
    """Every search on `seeds` pairs: how many were recovered whole, the mean share of units, CPU seconds a pair."""
    row: dict[str, object] = dict(zip(("blocks", "width", "hidden"), size, strict=True))
    row |= {"noise": noise, "pairs": seeds}
    pairs = [Pair.of(size, noise, seed) for seed in range(seeds)]
    for name, search in searches.items():
        start, found, failures = cpu_seconds(), [], []
        for pair in pairs:
            try:
                found.append(search(pair))
            except PeerError as reason:
                failures.append(str(reason))
        row[name] = {
            "recovered": sum(x == 1.0 for x in found),
            "units": round(float(np.mean(found)), 4) if found else None,
            "seconds": round((cpu_seconds() - start) / seeds, 3),
        } | ({"failures": failures} if failures else {})
    print(json.dumps(row), flush=True)
    return row


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", default="", metavar="DIR", help="the folder that rebasin is installed in")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    searches = {"frank_wolfe": by_frank_wolfe, "descent_from_identity": by_descent}
    if options.peers:
        sys.path.append(options.peers)
        searches["rebasin"] = by_rebasin
    rows = [residual_row(size, noise, options.seeds, searches) for size in SIZES for noise in NOISES]
    result = {"residual_mlp": rows, "torch": torch.__version__, "threads": options.threads}
    result |= {"measured": measured_with()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
