"""Is the derived group the right one for every model of the zoo, what does it cost, and what is left unmoved?

For every row of `tests/zoo.py`: seconds of `torch.export` alone and of `derive` (each after one untimed export of the
same model, one thread), the order found beside the order worked out by hand, the share of the parameter elements that
moves, the reasons for the rest, whether the eager model in float64 keeps its function under random elements
(`tests/judge.py`), and whether alignment brings back a planted copy (`tests/recovery.py`). Writes
`benchmarks/results/zoo.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from math import isclose, prod
from pathlib import Path
from typing import Any

import torch
import transformers

import permgraph as pg
from permgraph.tracing import exporting

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import vision
import zoo
import zoo_experts
import zoo_transformers
import zoo_vision
from judge import error
from recovery import wrong
from zoo_rows import Case, Row

from benchmarks.measured_with import measured_with

RESULT = Path(__file__).parent / "results" / "zoo.json"
FAMILIES = {
    "Perceptrons, sequences, recurrence": zoo.PERCEPTRONS,
    "Convolutions": zoo.CONVOLUTIONS,
    "Attention": zoo.ATTENTIONS,
    "transformers": (*zoo_transformers.ROWS, *zoo_experts.ROWS),
    "timm and torchvision": zoo_vision.ROWS if vision.available() else (),
}
PLACE = re.compile(r"^(?P<op>\S+)(?: in [^()]*)?(?: \([^()]*\))?: ")
TOP = 2
NEVER = ("positions of a convolution's kernel", "an axis of the input", "a table looked up by id")


def seconds(what: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one call, and what it returned."""
    start = time.perf_counter()
    result = what()
    return round(time.perf_counter() - start, 4), result


def export(case: Case) -> torch.export.ExportedProgram:
    """What `derive` asks of PyTorch, and nothing else."""
    with torch.no_grad():
        return exporting.export(case.model, case.args, case.kwargs)


def costs(spec: pg.PermutationSpec) -> list[tuple[str, float]]:
    """Reason -> share of all parameter elements that it keeps from moving; the largest first.

    The elements of a tensor that no group moves are shared equally among the reasons of its pinned axes; axes that are
    no units in any model (`NEVER`) are blamed only where nothing else is. Modules and source lines are left out of a
    reason, so that layers add up.
    """
    total = sum(prod(spec.shapes[name]) for name in spec.parameters)
    lost: Counter[str] = Counter()
    for name in spec.parameters:
        layout = spec.layouts.get(name)
        unmoved = prod(spec.shapes[name]) - (layout.moved_elements if layout else 0)
        for reason in (reasons := _reasons(spec, name)):
            lost[reason] += unmoved / len(reasons)
    return [(reason, share / total) for reason, share in lost.most_common(TOP) if share]


def _reasons(spec: pg.PermutationSpec, name: str) -> list[str]:
    if name in spec.unreached:
        return ["not reached by the forward pass"]
    found = [PLACE.sub(r"\g<op>: ", why) for (key, _), why in spec.pinned.items() if key == name]
    units = [why for why in found if not any(never in why for never in NEVER)]
    return units or found or ["a part of an axis, or an axis of one unit"]


def measure(row: Row) -> dict[str, Any]:
    """One row of the table."""
    case = row.build()
    export(case)
    export_seconds, _ = seconds(lambda: export(case))
    derive_seconds, spec = seconds(lambda: pg.derive(case.model, case.args, case.kwargs, outputs=row.outputs))
    worst = max(error(case, spec, seed) for seed in (0, 1))
    return {
        "name": row.name,
        "parameters": sum(p.numel() for p in case.model.parameters()),
        "export_seconds": export_seconds,
        "derive_seconds": derive_seconds,
        "groups": len(spec.groups),
        "log10_order": spec.log10_order,
        "log10_expected": row.order,
        "whole_group": isclose(spec.log10_order, row.order, rel_tol=1e-6, abs_tol=1e-9),
        "coverage": spec.coverage,
        "pins": costs(spec),
        "error": worst,
        "certified": worst < row.tolerance,
        "known_gap": row.known_gap,
        "recovered": {method: not wrong(case, spec, method) for method in ("correlation", "weights")},
    }


def guarded(row: Row) -> dict[str, Any]:
    """A row, or why there is none."""
    try:
        return measure(row)
    except Exception as failure:
        return {"name": row.name, "failure": f"{type(failure).__name__}: {failure}".splitlines()[0][:200]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this; nothing is written")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    families: dict[str, list[dict[str, Any]]] = {}
    for family, rows in FAMILIES.items():
        for row in rows:
            if options.only in row.name:
                families.setdefault(family, []).append(guarded(row))
                print(families[family][-1], flush=True)
    if not options.only:
        versions = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": 1,
            "measured": measured_with(),
        }
        RESULT.write_text(json.dumps({"families": families, **versions}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
