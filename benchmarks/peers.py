"""Do the groups that other tools derive keep the function, and do they move anything? One model, three tools.

    pip install --no-deps --target DIR rebasin==0.0.47 torch-pruning==1.6.1 torchview graphviz
    python benchmarks/peers.py --peers DIR

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
(relative error above the tolerance of the row); crashed; timeout; not expressible. Seconds are those of deriving.
Writes `benchmarks/results/peers.json`.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import multiprocessing
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from itertools import chain
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import permgraph as pg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import zoo
from judge import generic
from zoo_rows import Case, L, Row

RESULT = Path(__file__).parent / "results" / "peers.json"
SMALL = ("HubertModel", "BertModel", "ViTModel", "GPT2LMHeadModel", "LlamaForCausalLM", "ResNetModel")
LEFT_OUT = ("more than 8192 units",)  # reading Torch-Pruning's groups takes a pruned copy of the layer for every unit
ROWS = tuple(
    row
    for row in zoo.ROWS
    if row.outputs == "fixed"
    and row.name not in LEFT_OUT
    and (row.name in SMALL or row in (*zoo.PERCEPTRONS, *zoo.CONVOLUTIONS, *zoo.ATTENTIONS))
)
TIMEOUT, SEEDS, NOTHING = 60, (0, 1), "right, moves nothing"


class NotExpressibleError(Exception):
    """The groups of a tool cannot be read as permutations."""


@dataclass(frozen=True)
class Found:
    """What a tool derived: `move(seed)` permutes the model in place by a random element; `sizes()` are log10 orders."""

    groups: int
    sizes: Callable[[], Sequence[float]]
    move: Callable[[int], None]


def random_permutation(n: int, generator: torch.Generator) -> Tensor:
    """Uniform among the permutations of n that are not the identity, where there is one."""
    while (found := torch.randperm(n, generator=generator)).equal(torch.arange(n)) and n > 1:
        pass
    return found


def by_permgraph(model: nn.Module, case: Case) -> Found:
    """Groups of permgraph."""
    spec = pg.derive(model, case.args, case.kwargs)

    def move(seed: int) -> None:
        model.load_state_dict(spec.apply(spec.sample(seed), model.state_dict()))

    return Found(len(spec.groups), lambda: [group.log10_order for group in spec.groups], move)


def by_rebasin(model: nn.Module, case: Case) -> Found:
    """Groups of rebasin."""
    from rebasin.permutation_initializer import PermutationInitializer

    initializer = PermutationInitializer(copy.deepcopy(model), model, _inputs(model, case))
    initializer.model_graph.enforce_identity()
    permutations = [permutation for permutation, _ in initializer.model_graph.permutation_to_info]

    def move(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for permutation in permutations:
            permutation.perm_indices = random_permutation(len(permutation), generator)
        initializer.model_graph.apply_permutations()

    return Found(len(permutations), lambda: [L(len(permutation)) for permutation in permutations], move)


def _inputs(model: nn.Module, case: Case) -> Any:
    """A list of tensors, or a mapping of names where the model takes its inputs by name."""
    if not case.kwargs:
        return list(case.args)
    return dict(inspect.signature(model.forward).bind(*case.args, **case.kwargs).arguments)


Unit = dict[tuple[int, int], tuple[int, ...]]
"""(Tensor, dim) -> positions."""


def by_torch_pruning(model: nn.Module, case: Case) -> Found:
    """Groups of Torch-Pruning."""
    import torch_pruning

    graph = torch_pruning.DependencyGraph()
    ignored = _output_layers(model, case)
    graph.build_dependency(model, _inputs(model, case), verbose=False)
    groups = [
        group
        for group in graph.get_all_groups(ignored_layers=ignored)
        if not any(dep.target.type == torch_pruning.ops.OPTYPE.OUTPUT for dep, _ in group)
    ]
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}

    @cache
    def units() -> list[list[Unit]]:
        return [_units(graph, group) for group in groups]

    def move(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for group in units():
            order = random_permutation(len(group), generator).tolist()
            for key, dim in group[0]:
                index = torch.arange(tensors[key].shape[dim])
                for unit, source in zip(group, order, strict=True):
                    index[list(unit[key, dim])] = torch.tensor(group[source][key, dim])
                tensors[key].data = tensors[key].data.index_select(dim, index)

    return Found(len(groups), lambda: [L(len(group)) for group in units()], move)


def _output_layers(model: nn.Module, case: Case) -> list[nn.Module]:
    """Modules whose output is an output of the model."""
    made: dict[int, list[nn.Module]] = {}
    kept = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        for leaf in pytree.tree_leaves(output):
            kept.append(leaf)
            made.setdefault(id(leaf), []).append(module)

    hooks = [module.register_forward_hook(note) for module in model.modules() if module is not model]
    leaves = pytree.tree_leaves(model(*case.args, **case.kwargs))
    for hook in hooks:
        hook.remove()
    return [module for leaf in leaves for module in made.get(id(leaf), [])]


def _channel_groups(graph: Any, group: Any) -> int:
    """The number of channel groups that all permute alike: as in its MetaPruner."""
    most = 1
    for dep, _ in group:
        layer, pruner = dep.target.module, dep.handler.__self__
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.out_channels:
            continue
        out = graph.is_out_channel_pruning_fn(dep.handler)
        count = getattr(pruner, "get_out_channel_groups" if out else "get_in_channel_groups", None)
        if isinstance(layer, nn.Module) and count is not None:
            most = max(most, count(layer))
    return most


def _units(graph: Any, group: Any) -> list[Unit]:
    """For every channel of the root: the positions of every axis that go with it."""
    root, channels, together = group[0].dep, len(group[0].idxs), _channel_groups(graph, group)
    if channels % together:
        raise NotExpressibleError(f"{channels} channels in {together} channel groups")
    step = channels // together
    units: list[Unit] = []
    for first in range(step):
        indices = list(range(first, channels, step))
        gone: dict[tuple[int, int], set[int]] = {}
        for dep, idxs in graph.get_pruning_group(root.target.module, root.handler, indices):
            for key, positions in _removed(dep, idxs).items():
                gone.setdefault(key, set()).update(positions)
        unit = {key: tuple(sorted(positions)) for key, positions in gone.items()}
        if unit not in units:
            units.append(unit)
    for key in {key: None for unit in units for key in unit}:
        blocks = [unit.get(key, ()) for unit in units]
        if len({len(block) for block in blocks}) > 1 or len({*chain(*blocks)}) < sum(map(len, blocks)):
            raise NotExpressibleError("channels of one group stand for sets of different sizes, or that overlap")
    return units


def _removed(dep: Any, indices: list[int]) -> dict[tuple[int, int], list[int]]:
    """(Tensor, dim) -> the positions that are gone after its pruning function ran on a copy with numbered entries."""
    layer = dep.target.module
    before = _tensors(layer)
    if not before:
        return {}
    numbered = copy.deepcopy(layer)
    for tensor in _tensors(numbered).values():
        tensor.data = torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
    dep.handler.__self__.pruning_dim = dep.target.pruning_dim
    try:
        result = dep.handler(numbered, sorted(indices))
    except Exception as failure:
        raise NotExpressibleError(f"its pruning function fails: {type(failure).__name__}: {failure}") from failure
    pruned = _tensors(result if isinstance(layer, nn.Parameter) else numbered)
    return {
        (id(tensor), dim): _gone(tensor.shape, dim, pruned[name])
        for name, tensor in before.items()
        for dim, size in enumerate(tensor.shape)
        if pruned[name].shape[dim] != size
    }


def _tensors(layer: nn.Module | Tensor) -> dict[str, Tensor]:
    if isinstance(layer, Tensor):
        return {"": layer}
    return {name: t for name, t in [*layer.named_parameters(), *layer.named_buffers()] if t.dim()}


def _gone(shape: torch.Size, dim: int, numbers: Tensor) -> list[int]:
    """Positions along a dimension of which no number is left."""
    stride = prod(shape[dim + 1 :])
    kept = set((numbers.detach().long() // stride % shape[dim]).flatten().tolist())
    return [position for position in range(shape[dim]) if position not in kept]


TOOLS = {"permgraph": by_permgraph, "rebasin": by_rebasin, "torch-pruning": by_torch_pruning}
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
    start = time.perf_counter()
    found = TOOLS[tool](model, case)
    row_of = {"seconds": round(time.perf_counter() - start, 4), "groups": found.groups}
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
        """The outcome of a row; a process that is not warm yet gets as long again to start."""
        warm = self.process is not None
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=serve, args=(self.tool, self.folder, other), daemon=True)
            self.process.start()
            other.close()
        self.pipe.send(name)
        try:
            if self.pipe.poll(TIMEOUT + TIMEOUT * (not warm)):
                return self.pipe.recv()
            outcome = {"outcome": "timeout", "reason": f"no answer in {TIMEOUT} s"}
        except EOFError:
            outcome = {"outcome": "crashed", "reason": "the process died"}
        self.process.kill()
        self.process = None
        return outcome

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.pipe.send("")
            self.process.join()


def installed(folder: str) -> dict[str, str]:
    """Versions of the tools in a folder."""
    found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions(path=[folder])}
    return {name: found[name] for name in PACKAGES if name in found} | {"permgraph": pg.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", help="the folder they are installed in; absent: not installed")
    parser.add_argument("--only", default="", help="rows whose name contains this; nothing is written")
    options = parser.parse_args()
    versions = installed(options.peers) if options.peers else {"permgraph": pg.__version__}
    workers = {tool: Worker(tool, options.peers) for tool in TOOLS if tool in versions}
    rows = []
    for row in ROWS:
        if options.only not in row.name:
            continue
        tools = {
            tool: workers[tool].ask(row.name) if tool in workers else {"outcome": "not installed"} for tool in TOOLS
        }
        rows.append(settle({"name": row.name, "log10_expected": row.order, "tools": tools}))
        print(row.name, {tool: one["outcome"] for tool, one in tools.items()}, flush=True)
        if options.only:
            print(json.dumps(tools, indent=1))
    for worker in workers.values():
        worker.close()
    if not options.only:
        data = {"rows": rows, "versions": versions, "torch": torch.__version__, "timeout": TIMEOUT, "threads": 1}
        RESULT.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
