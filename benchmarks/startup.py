"""How long does a command take on a model so small that only starting counts?

    python -m benchmarks.startup                 # in a new environment with what a user installs, permgraph[hub]
    python -m benchmarks.startup --here          # in the environment that runs it

Each row is a process of its own, the least of several runs, after one that is not counted and compiles what is to be
compiled. What else is installed counts, because transformers imports many packages where they are there. The first rows
are what no command that traces a model of transformers can do without: PyTorch, and PyTorch with an export of one layer
and the class of the model. Seconds of the processor are summed over threads; those of the clock depend on what else the
machine does (`load`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from benchmarks.measured_with import ROOT, measured_with

RESULT = ROOT / "benchmarks" / "results" / "startup.json"
REPEATS = 5
OUT = "out"
EXPORT = (
    "import torch; torch.export.export(torch.nn.Linear(2, 3), (torch.ones(1, 2),)); "
    "from transformers import LlamaForCausalLM"
)
MAKE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
for seed, name in enumerate(sys.argv[1:]):
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=48)).save_pretrained(name)
"""
ROWS: dict[str, tuple[str, ...]] = {
    'python -c "import torch"': ("-c", "import torch"),
    "… an export of one layer and the class": ("-c", EXPORT),
    'python -c "import permgraph"': ("-c", "import permgraph"),
    "permgraph --help": ("-m", "permgraph", "--help"),
    "permgraph inspect a": ("-m", "permgraph", "inspect", "a"),
    "permgraph explain a lm_head.weight:1": ("-m", "permgraph", "explain", "a", "lm_head.weight:1"),
    f"permgraph align a b --out {OUT}": ("-m", "permgraph", "align", "a", "b", "--out", OUT),
    f"permgraph merge a b --out {OUT}": ("-m", "permgraph", "merge", "a", "b", "--out", OUT),
}


def run(words: Sequence[str], folder: Path) -> dict[str, float]:
    """Seconds of clock and processor of one process; a failure ends the measurement with what was said."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
    environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    shutil.rmtree(folder / OUT, ignore_errors=True)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr.decode()[-2000:]}")
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds, "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def measured_apart() -> None:
    """Install permgraph[hub] into a new environment, and measure there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", "constraints.txt", ".[hub]")
        subprocess.run([python, *install], cwd=ROOT, check=True)
        subprocess.run([python, "-m", "benchmarks.startup", "--here"], cwd=ROOT, check=True)


def measure() -> None:
    """Measure all rows in turn, several times, so that a busy minute does not fall on one of them."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run(("-c", MAKE, "a", "b"), folder)
        for words in ROWS.values():
            run(words, folder)
        took: dict[str, list[dict[str, float]]] = {typed: [] for typed in ROWS}
        for _ in range(REPEATS):
            for typed, words in ROWS.items():
                took[typed].append(run(words, folder))
    rows = [
        {"typed": typed} | {name: min(one[name] for one in runs) for name in ("seconds", "cpu_seconds")}
        for typed, runs in took.items()
    ]
    results: dict[str, Any] = {"load": load, "load_after": os.getloadavg()[0], "repeats": REPEATS, "rows": rows}
    results["installed"] = len(list(distributions()))
    RESULT.write_text(json.dumps(results | {"measured": measured_with()}, indent=1) + "\n")
    for row in rows:
        print(f"{row['cpu_seconds']:6.2f} {row['seconds']:6.2f}  {row['typed']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true")
    if parser.parse_args().here:
        measure()
    else:
        measured_apart()


if __name__ == "__main__":
    main()
