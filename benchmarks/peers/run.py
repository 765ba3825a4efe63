"""Do the groups that other tools derive keep the function, and do they move anything? One model, three tools.

    pip install --no-deps --target DIR rebasin==0.0.47 torch-pruning==1.6.1 torchview graphviz
    python benchmarks/peers/run.py --peers DIR [--only TEXT] [--again]

Every tool gets the same float64 model with generic parameters (`tests/judge.py`) and derives its own groups; random
elements of them are applied and the outputs compared. How the groups of each are read:

- permgraph: as it says, `derive` and `apply`.
- rebasin: its own initialiser (`PermutationInitializer`, `enforce_identity`), its own `apply_permutations`; every
  permutation that it would solve for is drawn at random instead.
- Torch-Pruning: made to remove channels, not to permute them. A group of `DependencyGraph.get_all_groups` says which
  positions of which tensors go when channel i of its root goes; permuting channels moves these sets of positions onto
  each other, in their order. What a set is, its own pruning functions tell, run on copies with numbered entries. Where
  a layer has channel groups, all of them permute alike, as its own pruners prune them. Layers that give the output are
  ignored, as its documentation asks. It is not told the number of heads, which a user has to know. Where the sets have
  different sizes or overlap, the group is not expressible as permutations.

Outcomes: right; right, moves nothing (where something could move, by hand or by another tool that is right); wrong
(relative error above the tolerance of the row); crashed; timeout; not expressible. Seconds are processor time
of deriving. Writes `benchmarks/results/peers.json` after every row, and goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import distributions
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils import _pytree as pytree

import permgraph as pg

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import vision
import zoo
import zoo_vision
from judge import generic
from pruning_groups import NotExpressibleError
from tools import TOOLS
from zoo_rows import Case, Row

from benchmarks.measured_with import measured_with

RESULT = Path(__file__).parents[1] / "results" / "peers.json"
LEFT_OUT = ("more than 8192 units",)  # reading Torch-Pruning's groups takes a pruned copy of the layer for every unit
ALL = (*zoo.ROWS, *(zoo_vision.ROWS if vision.available() else ()))
ROWS = tuple(row for row in ALL if row.outputs == "fixed" and row.name not in LEFT_OUT)
TIMEOUT, SEEDS, NOTHING = 60, (0, 1), "right, moves nothing"  # seconds of processor time
PATIENCE = 20 * TIMEOUT  # seconds by the clock, for a process that hangs
PACKAGES = ("rebasin", "torch-pruning", "torchview")


def judge(tool: str, row: Row) -> dict[str, Any]:
    """One tool on one row; where it is wrong, once more without running statistics, which can be computed anew."""
    found = attempt(tool, row, statistics=True)
    if found["outcome"] == "wrong" and any("running_" in name for name in row.build().model.state_dict()):
        found["statistics_only"] = attempt(tool, row, statistics=False)["outcome"] == "right"
    return found


def attempt(tool: str, row: Row, statistics: bool) -> dict[str, Any]:
    """One tool on one row; without `statistics`, all running means are 0 and variances 1."""
    case = row.build()
    model = generic(case.model, 0)
    for name, buffer in model.named_buffers():
        if not statistics and "running_" in name:
            buffer.fill_(float(name.endswith("var")))
    case = Case(model, *pytree.tree_map_only(Tensor, _double, (case.args, case.kwargs)))
    with torch.no_grad():
        expected = pytree.tree_map_only(Tensor, torch.clone, model(*case.args, **case.kwargs))
    start_state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = time.process_time()
    found = TOOLS[tool](model, case)
    row_of = {"seconds": round(time.process_time() - start, 4), "groups": found.groups}
    row_of |= {"log10_order": sum(found.sizes())}
    worst = 0.0
    for seed in SEEDS:
        found.move(seed)
        with torch.no_grad():
            worst = max(worst, _difference(expected, model(*case.args, **case.kwargs)))
    moved = any(not torch.equal(tensor, start_state[name]) for name, tensor in model.state_dict().items())
    outcome = "wrong" if worst > row.tolerance else "right" if moved else NOTHING
    return {"outcome": outcome, "error": worst if worst < float("inf") else None, **row_of}


def settle(row: dict[str, Any]) -> dict[str, Any]:
    """Adds the largest order known: by hand or by a tool that is right. Where it is 1, moving nothing is right."""
    ones = row["tools"].values()
    known = [one["log10_order"] for one in ones if one["outcome"] == "right"]
    row["log10_largest"] = max([row["log10_expected"], *known])
    for one in ones:
        if one["outcome"] == NOTHING and not row["log10_largest"]:
            one["outcome"] = "right"
    return row


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _difference(expected: Any, found: Any) -> float:
    """Largest difference of a leaf relative to its largest entry; infinite where an output is not finite."""
    worst = 0.0
    for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True):
        if isinstance(a, Tensor) and a.numel():
            off = ((a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=1e-30)).item()
            worst = max(worst, off if off == off else float("inf"))
    return worst


def serve(tool: str, folder: str, pipe: Connection) -> None:
    """Answer names of rows with outcomes."""
    sys.path.append(folder)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rows = {row.name: row for row in ROWS}
    with suppress(Exception):
        judge(tool, ROWS[0])  # the first call of any tool pays for imports
    while name := pipe.recv():
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + TIMEOUT, resource.RLIM_INFINITY))
        try:
            pipe.send(judge(tool, rows[name]))
        except NotExpressibleError as reason:
            pipe.send({"outcome": "not expressible", "reason": str(reason)})
        except Exception as failure:
            lines = str(failure).splitlines() or [""]
            text = re.sub(r"(?:/[\w.\-]+){2,}/", "", f"{type(failure).__name__}: {lines[0]}"[:160])
            pipe.send({"outcome": "crashed", "reason": text})


class Worker:
    """A process for one tool, started anew after a timeout or a crash."""

    def __init__(self, tool: str, folder: str) -> None:
        self.tool, self.folder = tool, folder
        self.process: multiprocessing.process.BaseProcess | None = None

    def ask(self, name: str) -> dict[str, Any]:
        """The outcome of a row."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=serve, args=(self.tool, self.folder, other), daemon=True)
            self.process.start()
            other.close()
        self.pipe.send(name)
        with suppress(EOFError):
            if self.pipe.poll(PATIENCE):
                return self.pipe.recv()
            self.process.kill()
        self.process.join()
        late = self.process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        self.process = None
        if late:
            return {"outcome": "timeout", "reason": f"no answer in {TIMEOUT} s of processor time"}
        return {"outcome": "crashed", "reason": "the process died"}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.pipe.send("")
            self.process.join()


def installed(folder: str) -> dict[str, str]:
    """Versions of the tools in a folder."""
    found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions(path=[folder])}
    return {name: found[name] for name in PACKAGES if name in found} | {"permgraph": pg.__version__}


def measure(rows: Sequence[Row], folder: str, known: dict[str, Any]) -> dict[str, Any]:
    """What is known with the rows measured that are not; written after every row."""
    versions = installed(folder) if folder else {"permgraph": pg.__version__}
    workers = {tool: Worker(tool, folder) for tool in TOOLS if tool in versions}
    data = {"rows": [], "versions": versions, "torch": torch.__version__, "timeout": TIMEOUT, "threads": 1}
    done = {row["name"]: row for row in known.get("rows", ())}
    for row in rows:
        if row.name not in done:
            tools = {
                tool: workers[tool].ask(row.name) if tool in workers else {"outcome": "not installed"} for tool in TOOLS
            }
            done[row.name] = settle(
                {"name": row.name, "log10_expected": row.order, "tools": tools, "measured": measured_with()}
            )
            print(row.name, {tool: one["outcome"] for tool, one in tools.items()}, flush=True)
        data["rows"] = [done[other.name] for other in ROWS if other.name in done]
        RESULT.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    for worker in workers.values():
        worker.close()
    return data


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", help="the folder they are installed in; absent: not installed")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    chosen = [row for row in ROWS if options.only in row.name]
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if options.again:
        again = {row.name for row in chosen}
        known["rows"] = [row for row in known.get("rows", ()) if row["name"] not in again]
    measure(chosen, options.peers, known)


if __name__ == "__main__":
    main()
