"""What does a new user need from the wheel to a merged checkpoint, and how fast do the first commands answer?

    python benchmarks/first_steps.py

Builds the wheel, installs it into an empty virtual environment, makes two BERT-shaped folders, and runs the commands
that the page on first steps shows, each as a user would type it. Then times `--help` and `inspect` of a BERT-base-sized
folder, each in a process of its own, the least of several repeats. Seconds of the clock depend on what else the machine
does (`load`); those of the processor, summed over threads, far less.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measured_with import measured_with

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "first_steps.json"
INSTALL = "pip install 'permgraph[hub]'"
COMMANDS = (
    "permgraph inspect bert-a",
    "permgraph align bert-a bert-b --out bert-b-aligned",
    "permgraph merge bert-a bert-b --out merged",
)
BASE: dict[str, Any] = {"vocab_size": 30522}  # the other sizes of BertConfig are those of BERT-base
TINY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 200,
    "max_position_embeddings": 64,
}  # fmt: skip
MAKE = """
import sys, json, torch
from transformers import BertConfig, BertModel
folder, seed, sizes, weights = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4] == "weights"
torch.manual_seed(seed)
config = BertConfig(**sizes, architectures=["BertModel"])
BertModel(config).save_pretrained(folder) if weights else config.save_pretrained(folder)
"""
CHECK = "import sys; from transformers import AutoModel; print(type(AutoModel.from_pretrained(sys.argv[1])).__name__)"


def run(words: list[str], folder: Path, path: Path) -> tuple[dict[str, float], str]:
    """Seconds of clock and processor, and what was printed; a failure ends the measurement with what was said."""
    environment = os.environ | {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(words)}: {done.stderr[-2000:]}")
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu}, done.stdout


def installed(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The programs of an empty environment with the built wheel, and what that took."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    path = folder / "venv" / "bin"
    pip = [str(path / "pip"), "--disable-pip-version-check"]
    run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], folder, path)
    (wheel,) = folder.glob("permgraph-*.whl")
    words = [*pip, "install", "--quiet", "-c", str(ROOT / "constraints.txt"), f"{wheel}[hub]"]
    took, _ = run(words, folder, path)
    return path, {"typed": INSTALL, "wheel": wheel.name, "wheel_bytes": wheel.stat().st_size} | took


def walk(path: Path, folder: Path) -> list[dict[str, Any]]:
    """The commands, one after the other, and that what they wrote loads."""
    for seed, name in enumerate(("bert-a", "bert-b")):
        run([str(path / "python"), "-c", MAKE, name, str(seed), json.dumps(TINY), "weights"], folder, path)
    steps = []
    for command in COMMANDS:
        took, said = run(shlex.split(command), folder, path)
        steps.append({"typed": command, "first_line": said.strip().splitlines()[0]} | took)
    for name in ("bert-b-aligned", "merged"):
        _, said = run([str(path / "python"), "-W", "ignore", "-c", CHECK, name], folder, path)
        assert said.strip() == "BertModel", said
    return steps


def least(command: str, folder: Path, path: Path, repeats: int) -> dict[str, Any]:
    took = [run(shlex.split(command), folder, path)[0] for _ in range(repeats)]
    return {"typed": command} | {name: min(one[name] for one in took) for name in took[0]}


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, install = installed(folder)
        results: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count(), "install": install}
        results["walk"] = walk(path, folder)
        run([str(path / "python"), "-c", MAKE, "bert-base", "0", json.dumps(BASE), "config"], folder, path)
        results["times"] = [
            least("permgraph --help", folder, path, 9),
            least("permgraph merge --help", folder, path, 9),
            least("permgraph inspect bert-base", folder, path, 3),
        ]
        results |= {"load_after": os.getloadavg()[0], "measured": measured_with()}
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
