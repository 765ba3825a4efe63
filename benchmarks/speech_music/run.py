"""Merge and probe one pair of encoders: every cell of the table, resumable, each in a file of its own.

    python -m benchmarks.speech_music.run                      # the shipped pair
    python -m benchmarks.speech_music.run --a facebook/hubert-base-ls960 --b m-a-p/MERT-v0-public --name full-size

Writes ``data/experiments/<name>/<cell>.json``: for each task and probe seed how many test examples of each group were
right. The encoders, and both side by side, are asked every task; merges, those that tell the encoders apart. Of a pair
of one domain (`--domain speech`), merges are asked the tasks that both encoders do, and their states are compared.
`summary.py` makes the tables from these. Several processes may do it at once: each takes rows that no other is at.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.speech_music.agreement import Parents
from benchmarks.speech_music.export import ASSETS
from benchmarks.speech_music.fetch import DATA
from benchmarks.speech_music.hearing import Together
from benchmarks.speech_music.one_domain import opened
from benchmarks.speech_music.pair import DEFAULT_SECONDS, Calibration, Encoders
from benchmarks.speech_music.precision import computing, in_bfloat16
from benchmarks.speech_music.probing import probe, tasks
from benchmarks.speech_music.rows import LEARNING, Cell, Move, cells
from permgraph.demo.hearing import Heard

PROBE_SEEDS = 3
FREE = ("linear", "slerp")
LAYER_CALIBRATION = Calibration("both", 120)
"""What the merges by layer are calibrated on."""


def experiment_folder(name: str) -> Path:
    """The folder with the cells of a pair."""
    return DATA / "experiments" / name


def counted(model: nn.Module, options: argparse.Namespace, only: Sequence[str] = ()) -> dict[str, Any]:
    """Task -> probe seed -> number of right test examples in each test group; of tasks `only`, or of all."""
    before = time.process_time()
    asked = only or options.tasks
    wanted = {task.name: task for task in tasks() if not asked or task.name in asked}
    found = {}
    for name, by_seed in probe(model.to(options.device), wanted.values(), options.probe_seeds, options.fp32).items():
        _, group = np.unique(wanted[name].groups[wanted[name].test], return_inverse=True)
        found[name] = [np.bincount(group, weights=hit).astype(int).tolist() for hit in by_seed]
    return {"right": found, "cpu_seconds": round(time.process_time() - before, 2)}


def merged(pair: Encoders, moved: Mapping[str, Tensor] | pg.Alignment, cell: Cell, fp32: bool) -> dict[str, Tensor]:
    """A and B' at the cell's weight, healed where the row says so, in bfloat16 if that pays and not `fp32`."""
    heard = None if cell.row.method in FREE else list(pair.like(LAYER_CALIBRATION).batches())
    options: dict[str, Any] = {"weight": cell.weight, "method": cell.row.method, "data": heard}
    if isinstance(moved, pg.Alignment):
        state = pg.merge(pair.a, pair.b, alignment=moved, **options)
    else:
        state = pg.merge(pair.a, pair.with_weights(moved), **options)
    if not cell.row.steps:
        return state
    with computing(next(pair.a.parameters()).device, fp32):
        return healed(pair, state, cell.row.steps)


def healed(pair: Encoders, state: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
    """A merge after so many steps towards all that both parents hear."""
    data = [batch | {"output_hidden_states": True} for batch in pair.like(LEARNING).batches()]
    return pg.heal(state, pair.a, pair.b, data, steps=steps, loss=Heard((pair.a, pair.b)))


def outstanding(options: argparse.Namespace, folder: Path) -> Iterator[Cell]:
    """The cells that have no file yet; those of a row and seed by one process, since B is moved once for them."""
    wanted = (cell for cell in cells(tuple(options.rows)) if not options.weights or cell.weight in options.weights)
    for (row, seed), own in groupby(wanted, lambda cell: (cell.row.name, cell.seed)):
        with alone(folder / f"{row}#{seed}.lock") as mine:
            yield from (cell for cell in own if mine and not (folder / f"{cell.key}.json").exists())


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Whether no other process has the lock, which is free again when this one leaves or dies."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        else:
            mine = True
        yield mine


def write(path: Path, content: Mapping[str, Any]) -> None:
    """One JSON file, replaced in one move; several processes may write the same."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(path)


def run(options: argparse.Namespace) -> None:
    """The two encoders, then the cells that are missing."""
    folder = experiment_folder(options.name)
    folder.mkdir(parents=True, exist_ok=True)
    calibration = Calibration(options.domain, options.calibration_seconds)
    pair = Encoders.load(options.a, options.b, calibration=calibration)
    write(folder / "about.json", described(pair, options))
    parents = None if options.domain == "both" else Parents(pair)
    for name, model in (("A", pair.a), ("B", pair.b), ("AB", Together(pair.a, pair.b))):
        if not (folder / f"{name}.json").exists():
            write(folder / f"{name}.json", counted(model, options) | compared(model, None if name == "AB" else parents))
    asked = opened(folder).asked
    moved: dict[tuple[Move, int], Mapping[str, Tensor] | pg.Alignment] = {}
    for cell in track(outstanding(options, folder), description=options.name, total=None):
        before, how = time.process_time(), (cell.row.move, cell.seed)
        if how not in moved:
            moved[how] = cell.row.move(pair, cell.seed)
        model = pair.with_weights(merged(pair, moved[how], cell, options.fp32)).eval()
        where = {"row": cell.row.name, "weight": cell.weight, "seed": cell.seed}
        where["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        found = counted(model, options, asked) | compared(model, parents)
        write(folder / f"{cell.key}.json", where | found | {"all_seconds": round(time.process_time() - before, 2)})
    if pair.certificates:
        certified(pair, folder / f"certificates-{os.getpid()}.json")


def described(pair: Encoders, options: argparse.Namespace) -> dict[str, Any]:
    """What was merged, on what and with which versions."""
    config = pair.a.config
    return {
        "a": name_of(options.a),
        "b": name_of(options.b),
        "domain": options.domain,
        "parameters": sum(p.numel() for p in pair.a.parameters()),
        "calibration_seconds": options.calibration_seconds,
        "probe_seeds": options.probe_seeds,
        "bfloat16": in_bfloat16(options.device, options.fp32),
        "hidden": config.hidden_size,
        "layers": config.num_hidden_layers,
        "pre_norm": config.do_stable_layer_norm,
        "torch": torch.__version__,
        "commit": commit(),
        "measured": measured_with(),
    }


def compared(model: nn.Module, parents: Parents | None) -> dict[str, Any]:
    """What a model's states tell of both parents' states, for a pair of one domain."""
    return {} if parents is None else {"squares": parents.squares(model)}


def certified(pair: Encoders, path: Path) -> None:
    """Add this process's proofs to those of the file: how many, and the largest error."""
    earlier = json.loads(path.read_text()) if path.exists() else {"certified": 0, "worst": 0.0}
    count, worst = len(pair.certificates), max(pair.certificates.values())
    write(path, {"certified": earlier["certified"] + count, "worst": max(earlier["worst"], worst)})


def commit() -> str:
    """The commit that the working tree is at; "" where there is none."""
    asked = ["git", "-C", str(ASSETS), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def name_of(reference: str) -> str:
    """A path inside the repository from its root; others by their last part."""
    path = Path(reference).resolve()
    root = ASSETS.parents[2]
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def parser() -> argparse.ArgumentParser:
    """The options that `full_size.py` shares."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--a", default=str(ASSETS / "speech"), help="folder of A, by default the speech encoder")
    found.add_argument("--b", default=str(ASSETS / "music"), help="folder of B, by default the music encoder")
    found.add_argument("--name", default="shipped", help="folder under data/experiments")
    found.add_argument("--domain", choices=("speech", "music", "both"), default="both", help="of both encoders")
    found.add_argument("--rows", nargs="*", default=[], help="only these rows (all)")
    found.add_argument("--weights", nargs="*", type=float, default=[], help="only these weights (all)")
    found.add_argument("--tasks", nargs="*", default=[], help="only these tasks (all)")
    found.add_argument("--calibration-seconds", type=int, default=DEFAULT_SECONDS)
    found.add_argument("--probe-seeds", type=int, default=PROBE_SEEDS)
    found.add_argument(
        "--fp32", action="store_true", help="no bfloat16 in the encoders' forward pass, also where it is faster"
    )
    found.add_argument("--device", default="cpu")
    found.add_argument("--threads", type=int, default=1)
    return found


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    run(options)


if __name__ == "__main__":
    main()
