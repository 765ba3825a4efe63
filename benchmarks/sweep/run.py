"""Of all architectures that can be traced, how many are certified, and how much of them moves?

    python benchmarks/sweep/run.py [--source transformers|timm|torchvision] [--only TEXT]
                                   [--again | --outcome OUTCOME | --held WHY | --lacking KEY | --times N]

Each model of transformers (made small), timm and torchvision (as they are) is built with random weights, in a process
of its own: derived, and random elements of the group, of permutations and then of all kinds, applied to the eager
model in float64 with generic parameters (`tests/judge.py`). Outcomes: certified, unsound, not traced (`CaptureError`),
failed (any other error), timeout, not built (no small model or no inputs, not our matter), not tried (`--build`).
`--lacking KEY` measures again those whose row lacks it: `export`, or `all_kinds` of a certified one.
`--times N` derives N models again, no more, of those whose row lacks the time of their export, the slowest first.
Writes `benchmarks/results/sweep.json` after every model, and goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.measured_with import measured_with

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests")]

RESULT = Path(__file__).parents[1] / "results" / "sweep.json"
SOURCES = ("transformers", "timm", "torchvision")
TIMEOUT, SECONDS = 1200, 300  # by the clock, for a process that hangs, and of processor time


def _child(source: str, name: str, part: str, out: Connection) -> None:
    import measuring

    rows = getattr(measuring, part)(source, name)
    try:
        while True:
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS, resource.RLIM_INFINITY))
            out.send(next(rows))
    except StopIteration:
        return
    except BaseException as error:
        out.send({"outcome": "failed", "why": f"{type(error).__name__}: {str(error)[:300]}"})


def bounded(source: str, name: str, part: str = "measure") -> dict[str, Any]:
    """The last row that this function of `measuring` found in time, or a timeout."""
    context = multiprocessing.get_context("fork")  # what the parent has imported need not be imported again
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(source, name, part, there))
    process.start()
    there.close()
    row: dict[str, Any] = {"outcome": "timeout", "why": f"no answer in {TIMEOUT} s"}
    try:
        while here.poll(TIMEOUT):
            row = here.recv()
    except EOFError:
        late = {"outcome": "timeout", "why": f"the process died, or took {SECONDS} s of processor time"}
        if "model" not in row and row.get("outcome") == "timeout":
            row = late
        elif row.get("outcome") == "certified" and not {"all_kinds", "judge"} & row.keys():
            row["all_kinds"] = late
    process.kill()
    process.join()
    return row


def _asked_again(row: dict[str, Any], chosen: argparse.Namespace) -> bool:
    """Whether a model that has a row is to be measured again."""
    held = chosen.held and any(chosen.held in why for why, _ in row.get("held_by", ()))
    known = {chosen.lacking, "judge"} & row.keys()  # a model that the judge cannot run in float64 has no all_kinds
    lacking = chosen.lacking and row["outcome"] == "certified" and not known
    return bool(chosen.again or held or lacking or row["outcome"] == chosen.outcome)


def _untimed(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The models that were derived without a time of their export, or not in time, the slowest first."""
    late = {key: row.get("seconds", SECONDS if row["outcome"] == "timeout" else None) for key, row in rows.items()}
    lacking = {key: seconds for key, seconds in late.items() if seconds is not None and "export" not in rows[key]}
    return sorted(lacking, key=lambda key: -lacking[key])


def _write(rows: dict[str, dict[str, Any]], out: Path) -> None:
    out.write_text(json.dumps({"seconds": SECONDS, "models": dict(sorted(rows.items()))}, indent=1) + "\n")


def _time(rows: dict[str, dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Derive the first of the untimed models again and put their times into their rows."""
    for key in _untimed(rows)[: chosen.times]:
        source, _, name = key.partition(":")
        row = bounded(source, name, "times")
        print(key, rows[key].get("seconds"), "->", *row.values(), flush=True)
        if "export" in row:
            rows[key] |= row | {"timed": measured_with()}
            _write(rows, chosen.out)


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=SOURCES, action="append")
    parser.add_argument("--only", default="")
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    parser.add_argument("--outcome", help="measure again the models of this outcome")
    parser.add_argument("--held", help="measure again the models that have an axis pinned for this reason")
    parser.add_argument("--lacking", help="measure again the certified models whose row lacks this")
    parser.add_argument("--times", type=int, help="time derive and export of so many models that lack it")
    parser.add_argument("--build", action="store_true", help="build the models and run them, no more")
    parser.add_argument("--part", default="0/1", help="every n-th model, from the k-th on: k/n")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


def _measure(rows: dict[str, dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Measure the models that are asked for and have no row."""
    import measuring

    part, parts = map(int, chosen.part.split("/"))
    for source in chosen.source or SOURCES:
        for name in measuring.names(source)[part::parts]:
            key = f"{source}:{name}"
            if chosen.only not in name or (key in rows and not _asked_again(rows[key], chosen)):
                continue
            row = bounded(source, name, "build_only" if chosen.build else "measure")
            rows[key] = row | {"measured": measured_with()}
            _print(key, row)
            _write(rows, chosen.out)


def _print(key: str, row: dict[str, Any]) -> None:
    all_kinds = row.get("all_kinds", {}).get("outcome", "")
    said = (row.get("seconds", ""), row.get("verify", ""), all_kinds, row.get("why", "")[:150])
    print(key, row["outcome"], f"{row.get('coverage', 0):.3f}", *said, flush=True)


def main() -> None:
    """Run what is asked for."""
    chosen = _chosen()
    import torch
    import vision

    vision.install()  # before transformers looks whether timm is there
    import measuring

    measuring.warm()  # the first export of a process takes longer than those after it
    torch.set_num_threads(1)  # before any child: a pool of threads does not survive a fork
    rows = json.loads(chosen.out.read_text())["models"] if chosen.out.exists() else {}
    (_time if chosen.times else _measure)(rows, chosen)


if __name__ == "__main__":
    main()
