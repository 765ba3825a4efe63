"""What does weight matching cost at full size, and does it find what was planted? One thread, one process a row.

HuBERT-base, ViT-B/16 and ResNet-50 with random weights. B is A in random order with noise 0 or 0.5 (in units of the
deviation of each tensor), or has weights drawn anew (*unrelated*: nothing to be found, the longest search). *Sweeps*:
seconds of CPU divided by those that the matrix products of one exact sweep take at the rate of a 1024 x 1024 product of
the same run, so that a busy machine does not count. *Memory*: what the process adds to the state in which it holds both
models, in units of the two. With `--peers DIR`, rebasin on the same pairs, stopped after `--patience` seconds of CPU.
Writes `benchmarks/results/large_pairs.json`, rows by name, those of earlier runs kept.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from planted import noisy, peak_mb
from torch import nn

import permgraph as pg
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.search import match_weights

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from weight_cases import recovered

from benchmarks.measured_with import measured_with

RESULT = Path(__file__).parent / "results" / "large_pairs.json"
KINDS = ("planted", "planted, noise 0.5", "unrelated")


def hubert() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any], str]:
    from transformers import HubertConfig, HubertModel

    return HubertModel(HubertConfig()), (), {"input_values": torch.zeros(1, 8000)}, "free"


def vit() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any], str]:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig()), (torch.zeros(1, 3, 224, 224),), {}, "fixed"


def resnet() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any], str]:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig()), (torch.zeros(1, 3, 64, 64),), {}, "fixed"


MODELS = {"HuBERT-base": hubert, "ViT-B": vit, "ResNet-50": resnet}


def drawn(build: Callable[[], Any], seed: int) -> Any:
    """A model whose biases, norms and statistics are away from 0 and 1, so that every unit is told apart."""
    torch.manual_seed(seed)
    model, *rest = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for value in model.buffers():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return model.eval(), *rest


def pair(name: str, kind: str) -> tuple[pg.PermutationSpec, dict[str, Any], dict[str, Any], Any, tuple[Any, Any]]:
    """The specification, A's and B's weights, the element that was planted, and a model with its inputs."""
    model, args, kwargs, outputs = drawn(MODELS[name], 0)
    spec = pg.derive(model, args, kwargs, outputs=outputs)
    a = model.state_dict()
    if kind == "unrelated":
        return spec, a, drawn(MODELS[name], 1)[0].state_dict(), None, (model, (*args, *kwargs.values()))
    torch.manual_seed(5)
    element = spec.sample(1)
    b = spec.apply(element, noisy(a, 0.5 if "noise" in kind else 0.0))
    return spec, a, b, element, (model, (*args, *kwargs.values()))


def sweep_gflop(pairing: Pairing) -> float:
    """2 units² × the rest, over every action on every site."""
    total = 0.0
    for site in pairing.sites:
        for action in site.actions:
            units = 1
            for size in site.sizes(action):
                units *= size
            total += 2.0 * units * site.cell.size
    return total / 1e9


def rate() -> float:
    """GFLOP in a second of CPU, by a float32 product of 1024 x 1024; the best of ten."""
    square, best = torch.randn(1024, 1024), float("inf")
    for _ in range(10):
        start = time.process_time()
        square @ square
        best = min(best, time.process_time() - start)
    return 2 * 1.024**3 / best


def row(name: str, kind: str) -> dict[str, Any]:
    """One search."""
    torch.set_num_threads(1)
    spec, a, b, element, _ = pair(name, kind)
    gc.collect()
    models = sum(t.numel() * t.element_size() for state in (a, b) for t in state.values()) / 2**20
    pairing = Pairing.of(spec, spec.groups, a, b)
    gflop, speed = sweep_gflop(pairing), rate()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is no state to start from
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, start, cpu = peak_mb_now(), time.perf_counter(), time.process_time()
    found = match_weights(spec, spec.groups, a, b)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "model": name,
        "pair": kind,
        "groups": len(spec.groups),
        "cpu_seconds": round(cpu, 2),
        "seconds": round(seconds, 2),
        "gflop_of_one_sweep": round(gflop),
        "gflop_per_cpu_second": round(speed, 1),
        "sweeps": round(cpu / (gflop / speed), 1),
        "models_mb": round(models),
        "memory_added_over_models": round((peak_mb_now() - before) / models, 2),
        "recovered": None if element is None else recovered(found.tables, spec.invert(element)),
        "objective_over_bound": round(found.search.objective / found.search.bound, 4),
        "identity_over_bound": round(found.search.identity / found.search.bound, 4),
        "steps": found.search.steps,
        "assignments_a_family": round(found.search.sweeps, 2),
        "fixed_point": found.search.fixed_point,
        "load": round(os.getloadavg()[0], 1),
    }


def peak_mb_now() -> float:
    """The largest resident size since it was last forgotten."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return peak_mb()


class Plain(nn.Module):
    """A model that answers with one tensor, which rebasin needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x, return_dict=False)[0]


def peer_row(name: str, kind: str, patience: int) -> dict[str, Any]:
    """rebasin's coordinate descent on the same pair; the processor time is limited."""
    torch.set_num_threads(1)
    _, a, b, _, (model, inputs) = pair(name, kind)
    from rebasin import PermutationCoordinateDescent

    other, *_ = MODELS[name]()
    other.load_state_dict(b)
    model.load_state_dict(a)
    one, two = Plain(model).eval(), Plain(other).eval()
    found: dict[str, Any] = {"model": name, "pair": kind}
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + patience, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXCPU, _stop)
    start = time.process_time()
    try:
        descent = PermutationCoordinateDescent(one, two, inputs[0])
        descent.rebasin()
    except TimeoutError:
        return found | {"rebasin_cpu_seconds": None, "rebasin": f"stopped after {patience} s"}
    except Exception as error:
        return found | {"rebasin_cpu_seconds": None, "rebasin": f"failed: {type(error).__name__}"}
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return found | {"rebasin_cpu_seconds": round(time.process_time() - start, 2), "rebasin": "done"}


def _stop(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="where rebasin is installed")
    parser.add_argument("--patience", type=int, default=300)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "PAIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        answer = peer_row(*options.one, options.patience) if options.peers else row(*options.one)
        print(json.dumps(answer))
        return
    rows = {f"{r['model']}, {r['pair']}": r for r in _earlier()}
    for name in (f"{model}, {kind}" for model in MODELS for kind in KINDS):
        if options.only not in name:
            continue
        model, kind = name.split(", ", 1)
        rows[name] = rows.get(name, {}) | _apart(model, kind, None, options.patience)
        if options.peers:
            rows[name] |= _apart(model, kind, options.peers, options.patience)
        rows[name] |= {"measured": measured_with()}
        print(json.dumps(rows[name]), flush=True)
        ordered = [rows[k] for k in (f"{m}, {kind}" for m in MODELS for kind in KINDS) if k in rows]
        RESULT.write_text(json.dumps({"rows": ordered, "torch": torch.__version__}, indent=1) + "\n")


def _earlier() -> list[dict[str, Any]]:
    return list(json.loads(RESULT.read_text())["rows"]) if RESULT.exists() else []


def _apart(model: str, kind: str, peers: Path | None, patience: int) -> dict[str, Any]:
    """One row in a process of its own."""
    options = [] if peers is None else ["--peers", str(peers), "--patience", str(patience)]
    path = os.pathsep.join(filter(None, [str(peers or ""), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, __file__, "--one", model, kind, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
