"""Which precision do the products of matching need? HuBERT-base, one thread, each way beside float64 of the same run.

By correlation: activations of random models on real audio, gathered once and reduced in every way at once; B is A in
random order (*planted*), with noise of a tenth of each tensor's deviation, or has weights drawn anew (*unrelated*). By
weights: the similarities of one sweep of every family, the others held at the planted element or at the identity. A way
is exact where it assigns each unit as float64 does; what it gives up is the objective of its permutation, as float64
reckons it, less that of float64's own. Writes `benchmarks/results/precision.json`, one kind of pair after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from full_size import TIE, random_model
from planted import noisy
from torch import Tensor
from transformers import HubertConfig, HubertModel

import permgraph as pg
from benchmarks.measured_with import measured_with
from permgraph.assignment.solve import Term, objective, solve
from permgraph.comparing.batches import as_batch
from permgraph.comparing.models import Models
from permgraph.comparing.moments import CrossMoments
from permgraph.comparing.points import find_points
from permgraph.data.audio import AudioBatches
from permgraph.matching.correlation import observe, terms_of
from permgraph.matching.weights.coordinate_descent import Descent
from permgraph.matching.weights.objective import Pairing
from permgraph.symmetry.derivation.derive import Derivation

RESULT = Path(__file__).parent / "results" / "precision.json"
AUDIO = Path(pg.__file__).parent / "demo" / "assets" / "clips" / "calibration"
KINDS = {"planted": 0.0, "planted, noise 0.1": 0.1, "unrelated": None}
EXACT = "float64"
Tables = Mapping[str, np.ndarray]


class Rounded(CrossMoments):
    """Products of bfloat16 with sums in float32: exactly what hardware that has them computes, at float32's speed."""

    def _products(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        return super()._products(a.bfloat16().float(), b.bfloat16().float(), out)


class Native(CrossMoments):
    """Products of bfloat16 as torch computes them here: sums over a chunk of frames are rounded to bfloat16."""

    def _products(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        return torch.mm(a.T.bfloat16(), b.bfloat16())


WAYS: dict[str, Callable[[int, str], CrossMoments]] = {
    EXACT: lambda size, where: CrossMoments(size, where=where, dtype=torch.float64),
    "float32": lambda size, where: CrossMoments(size, where=where),
    "bfloat16, float32 sums": lambda size, where: Rounded(size, where=where),
    "bfloat16 of this CPU": lambda size, where: Native(size, where=where),
}


class Fan:
    """Moments of one point in every way, and the seconds of CPU that each way took."""

    def __init__(self, size: int, where: str, seconds: dict[str, float]) -> None:
        self.ways = {name: make(size, where) for name, make in WAYS.items()}
        self.seconds = seconds

    def update(self, a: Tensor, b: Tensor, keep: Tensor | None) -> None:
        """The same frames to all."""
        for name, moments in self.ways.items():
            with Clock(self.seconds, name):
                moments.update(a, b, keep)


class Clock:
    """Adds the seconds of CPU inside it to an entry."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.process_time() - self.start


def by_correlation(
    spec: pg.PermutationSpec, a: HubertModel, b: HubertModel, batches: Sequence[dict[str, Tensor]], wanted: Tables
) -> list[dict[str, Any]]:
    """A row a way."""
    pair = Models.of((a, b))
    points = find_points(Derivation(pair.program(((), batches[0])), "free", {}), [g.name for g in spec.groups])
    seconds: dict[str, float] = {}
    fans = {k: Fan(int(np.prod(point.sizes)), point.node, seconds) for k, point in enumerate(points)}
    for batch in batches:
        observe(pair, [as_batch(batch)], points, fans)  # type: ignore[arg-type]
    terms: dict[str, list[Term]] = {}
    found: dict[str, Tables] = {}
    for name in WAYS:
        moments = {k: fan.ways.pop(name) for k, fan in fans.items()}
        with Clock(seconds, name):  # the last frames are still waiting
            terms[name] = list(terms_of(points, moments))
        found[name] = solve(spec.groups, terms[name])
        if name != EXACT:
            del terms[name]
    return rows(found, seconds, wanted, lambda tables: objective(spec.groups, terms[EXACT], tables))


def by_weights(
    spec: pg.PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], wanted: Tables
) -> list[dict[str, Any]]:
    """A row a way: the best answer of every family, the others held; a family that meets itself is left out."""
    held = {**spec.identity(), **wanted}
    pairing = Pairing.of(spec, spec.groups, a, b)
    rounded = [{name: tensor.bfloat16().float() for name, tensor in state.items()} for state in (a, b)]
    ways = {
        EXACT: replace(pairing, dtype=torch.float64),
        "float32": pairing,
        "bfloat16, float32 sums": replace(pairing, state_a=rounded[0], state_b=rounded[1]),
    }
    seconds: dict[str, float] = {}
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in ways}
    lost: dict[str, float] = dict.fromkeys(ways, 0.0)
    best = 0.0
    descents = {name: Descent.of(way) for name, way in ways.items()}
    for k in range(len(descents[EXACT].families)):
        exact = descents[EXACT].problem(k, held)
        if exact.factors:
            continue
        for name, descent in descents.items():
            with Clock(seconds, name):
                problem = descent.problem(k, held)
            answer = problem.best(problem.linear)
            found[name] |= answer
            value = exact.at(exact.flat(answer))
            best += value if name == EXACT else 0.0
            lost[name] += value
        for descent in descents.values():
            descent.kept.kept.clear()
    return [
        row | {"given_up": 1 - lost[row["way"]] / best} for row in rows(found, seconds, wanted, lambda tables: best)
    ]


def rows(
    found: Mapping[str, Tables], seconds: Mapping[str, float], wanted: Tables, value: Callable[[Tables], float]
) -> list[dict[str, Any]]:
    """What each way assigned beside float64, and beside what was planted."""
    best = value(found[EXACT])
    return [
        {
            "way": name,
            "cpu_seconds": round(seconds[name], 2),
            "as_float64": same(tables, found[EXACT]),
            "recovered": same(tables, wanted) if wanted else None,
            "given_up": 1 - value(tables) / best,
        }
        for name, tables in found.items()
    ]


def same(one: Tables, other: Tables) -> float:
    """The share of all units that have the same source."""
    return sum(int((one[k] == other[k]).sum()) for k in one) / sum(one[k].size for k in one)


def measured(kind: str, windows: int) -> dict[str, Any]:
    """Both methods on one pair."""
    batches = list(AudioBatches(AUDIO, batch_size=2, limit=windows))
    with torch.device("meta"):
        shell = HubertModel(HubertConfig()).eval()
    spec = pg.derive(shell, (), batches[0], outputs="free", tie=TIE)
    a, b, wanted = random_model(0), random_model(1), {}
    if (noise := KINDS[kind]) is not None:
        element = spec.sample(1)
        wanted = dict(spec.invert(element))
        torch.manual_seed(5)
        b.load_state_dict(spec.apply(element, noisy(a.state_dict(), noise)))
    found = {"pair": kind, "load": round(os.getloadavg()[0], 1)}
    found["weights"] = by_weights(spec, a.state_dict(), b.state_dict(), wanted)
    found["correlation"] = by_correlation(spec, a, b, batches, wanted)
    found["audio_seconds"] = sum(batch["input_values"].numel() for batch in batches) / 16000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--windows", type=int, default=4, help="windows of 5 s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in options.kinds:
        row = measured(kind, options.windows)
        known = {r["pair"]: r for r in json.loads(RESULT.read_text())["rows"]} if RESULT.exists() else {}
        known[kind] = row | {"measured": measured_with()}
        print(json.dumps(row), flush=True)
        result = {"rows": [known[k] for k in KINDS if k in known], "torch": torch.__version__}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
