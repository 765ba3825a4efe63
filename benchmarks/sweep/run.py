"""Of all architectures that can be traced, how many are certified, and how much of them moves?

    python benchmarks/sweep/run.py [--source transformers|timm|torchvision] [--only TEXT] [--again]

Each model of transformers (made small), timm and torchvision (as they are) is built with random weights, in a process
of its own: derived, and random elements of the group applied to the eager model in float64 with generic parameters
(`tests/judge.py`). Models in no table of ours; nothing here is written for one of them. Outcomes: certified, unsound,
not traced (`CaptureError`), failed (any other error), timeout, not built (no small model or no inputs, not our matter).
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
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.measured_with import measured_with

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests")]

RESULT = Path(__file__).parents[1] / "results" / "sweep.json"
TIMEOUT, SECONDS = 1200, 60  # by the clock, for a process that hangs, and of processor time
TOLERANCE = 1e-8
SINGLE = 1e-3  # for models that compute in float32 whatever they are given


def names(source: str) -> list[str]:
    """All models of a source."""
    if source == "transformers":
        import transformers_models

        return transformers_models.names()
    import vision_models

    return vision_models.timm_names() if source == "timm" else vision_models.torchvision_names()


def build(source: str, name: str) -> Any:
    """(model, args, kwargs)."""
    if source == "transformers":
        import transformers_models

        return transformers_models.build(name)
    import vision_models

    return vision_models.build_timm(name) if source == "timm" else vision_models.build_torchvision(name)


def measure(source: str, name: str) -> dict[str, Any]:
    """One row."""
    import torch

    import permgraph as pg

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        case = build(source, name)
    except Exception as error:
        return {"outcome": "not built", "why": f"{type(error).__name__}: {str(error)[:300]}"}
    return _derived(pg, case)


def _derived(pg: Any, case: Any) -> dict[str, Any]:
    from judge import error
    from zoo_rows import Case
    from zoo_table import costs

    model, args, kwargs = case
    row: dict[str, Any] = {"model": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}
    start = time.perf_counter()
    try:
        spec = pg.derive(model, args, kwargs)
    except pg.CaptureError as problem:
        return row | {"outcome": "not traced", "why": str(problem)[:400]}
    except Exception as problem:
        return row | {"outcome": "failed", "why": f"{type(problem).__name__}: {str(problem)[:300]}"}
    row |= {
        "seconds": round(time.perf_counter() - start, 2),
        "groups": len(spec.groups),
        "log10_order": spec.log10_order,
        "coverage": spec.coverage,
        "held_by": [[why, share] for why, share in costs(spec)],
    }
    try:
        found = error(Case(model, args, kwargs), spec, 0)
    except Exception as problem:  # some operations exist in single precision alone: `verify` decides
        found = float("inf")
        row |= {"judge": f"{type(problem).__name__}: {str(problem)[:200]}"}
    if not found < TOLERANCE and (found < SINGLE or "judge" in row):
        row["verify"] = _verified(pg, case, spec)
    certified = found < TOLERANCE or row.get("verify") == "ok"
    refused = "judge" in row and not row["verify"].startswith("the function changes")
    return row | {"outcome": "certified" if certified else "failed" if refused else "unsound", "error": found}


def _verified(pg: Any, case: Any, spec: Any) -> str:
    """What `verify` says: ok, the groups that fail, or the error."""
    model, args, kwargs = case
    try:
        certificate = pg.verify(model, args, kwargs, spec=spec, trials=1)
    except Exception as problem:
        return f"{type(problem).__name__}: {str(problem)[:300]}"
    return "ok" if certificate.ok else str(certificate)[:300]


def _child(source: str, name: str, out: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS, resource.RLIM_INFINITY))
    try:
        out.send(measure(source, name))
    except BaseException as error:
        out.send({"outcome": "failed", "why": f"{type(error).__name__}: {str(error)[:300]}"})


def bounded(source: str, name: str) -> dict[str, Any]:
    """One row, or a timeout."""
    context = multiprocessing.get_context("fork")  # what the parent has imported need not be imported again
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(source, name, there))
    process.start()
    there.close()
    row: dict[str, Any] = {"outcome": "timeout", "why": f"no answer in {TIMEOUT} s"}
    try:
        if here.poll(TIMEOUT):
            row = here.recv()
    except EOFError:
        row = {"outcome": "timeout", "why": f"the process died, or took {SECONDS} s of processor time"}
    process.kill()
    process.join()
    return row


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=("transformers", "timm", "torchvision"), action="append")
    parser.add_argument("--only", default="")
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    parser.add_argument("--part", default="0/1", help="every n-th model, from the k-th on: k/n")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    import torch
    import vision

    vision.install()  # before transformers looks whether timm is there
    import judge  # noqa: F401

    torch.set_num_threads(1)  # before any child: a pool of threads does not survive a fork
    rows = json.loads(chosen.out.read_text())["models"] if chosen.out.exists() else {}
    for source in chosen.source or ("transformers", "timm", "torchvision"):
        part, parts = map(int, chosen.part.split("/"))
        for name in names(source)[part::parts]:
            key = f"{source}:{name}"
            if chosen.only not in name or (key in rows and not chosen.again):
                continue
            rows[key] = row = bounded(source, name) | {"measured": measured_with()}
            print(
                key,
                row["outcome"],
                f"{row.get('coverage', 0):.3f}",
                row.get("seconds", ""),
                row.get("verify", ""),
                row.get("why", "")[:150],
                flush=True,
            )
            data = {"seconds": SECONDS, "models": dict(sorted(rows.items()))}
            chosen.out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
