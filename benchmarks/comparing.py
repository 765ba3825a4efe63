"""How long does `permgraph compare` take on two BERT-base-sized folders, and what does it say?

A has random weights, its vectors away from 0 and 1. Each B is a folder made from A, or from another seed, and is
compared by `permgraph compare A B --json` in a process of its own, with as many threads as cores. Seconds are of the
clock, from the start of the process to its end, and of the processor over all threads; the load of the machine before
is written too. Writes `benchmarks/results/comparing.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.random_weights import with_random_weights

RESULT = Path(__file__).parent / "results" / "comparing.json"
NOISE, STEPS, RATE = 0.01, 3, 1e-4
PREFIX = "_orig_mod.module."

State = dict[str, Tensor]


def random_model(seed: int) -> BertModel:
    """BERT-base with random weights."""
    return with_random_weights(lambda: BertModel(BertConfig()), seed)


def planted(state: State) -> State:
    """Under a random element of all kinds."""
    with torch.device("meta"):
        shell = BertModel(BertConfig()).eval()
    spec = pg.derive(shell, (), {"input_ids": torch.zeros(1, 8, dtype=torch.long, device="meta")}, kinds="all")
    return spec.apply(spec.sample(1), state)


def noisy(state: State) -> State:
    """With normal noise of a hundredth of each tensor's root mean square."""
    torch.manual_seed(2)
    return {name: t + NOISE * t.square().mean().sqrt() * torch.randn_like(t) for name, t in state.items()}


def tuned(state: State) -> State:
    """A few steps of Adam on random tokens that are masked."""
    torch.manual_seed(3)
    model = BertForMaskedLM(BertConfig())
    model.bert.load_state_dict({k: t for k, t in state.items() if not k.startswith("pooler.")})
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    for _ in range(STEPS):
        ids = torch.randint(1000, 30000, (4, 32))
        optimizer.zero_grad()
        model(input_ids=ids.masked_fill(torch.rand(4, 32) < 0.15, 103), labels=ids).loss.backward()
        optimizer.step()
    return {**state, **model.bert.state_dict()}


def renamed(state: State) -> State:
    """With the prefixes of `torch.compile` and `DataParallel`."""
    return {PREFIX + name: tensor for name, tensor in state.items()}


ROWS: dict[str, tuple[Callable[[State], State], ...]] = {
    "A with other names": (renamed,),
    "A, moved by an element of all kinds": (planted,),
    "A with 1% noise, moved": (noisy, planted),
    "A fine-tuned": (tuned,),
    "A fine-tuned, moved": (tuned, planted),
    "another seed": (),
}


def measure(name: str, a: Path, b: Path) -> dict[str, Any]:
    """One run of the command."""
    load, before, start = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-m", "permgraph", "compare", str(a), str(b), "--json"]
    env = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    row = {"name": name, **{key: found[key] for key in ("verdict", "p_value", "moved", "chance")}, **found["whole"]}
    row |= {"seconds": round(taken, 1), "load": round(load, 1)}
    row["cpu_seconds"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains it; writes nothing")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        a, b, other = (Path(root) / name for name in ("a", "b", "other"))
        for seed, folder in ((0, a), (0, b), (1, other)):
            random_model(seed).save_pretrained(folder)
        for name, steps in ROWS.items():
            if options.only in name:
                state = load_file((a if steps else other) / "model.safetensors")
                for step in steps:
                    state = step(state)
                packed = {key: tensor.contiguous() for key, tensor in state.items()}
                save_file(packed, b / "model.safetensors", metadata={"format": "pt"})
                del state, packed
                rows.append(measure(name, a, b))
    if not options.only:
        size = sum(parameter.numel() for parameter in random_model(0).parameters())
        peak = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
        result = {"rows": rows, "parameters": size, "peak_mb": peak, "threads": os.cpu_count()}
        RESULT.write_text(json.dumps(result | {"measured": measured_with()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
