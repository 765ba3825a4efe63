"""Do tables of smooth and balance layers, written by hand for each architecture, agree with what is derived?

    python benchmarks/mapping_table.py [--wheel FILE] [--only TEXT] [--again]

Reads the AWQ and SmoothQuant tables of llm-compressor out of its wheel (fetched by pip, without its dependencies), as
syntax. For each model class of transformers that the tables name, and each causal language model, for which the tool
falls back on its default tables, a small model is built (`sweep/transformers_models.py`) with generic weights in
float64. Each pair of theirs is put to the proof: rows divided, columns multiplied, outputs compared. Writes
`benchmarks/results/mappings.json` after every model, and goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import permgraph as pg

sys.path.insert(0, str(Path(__file__).parent / "sweep"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import transformers_models as small
from judge import generic
from smoothing import smoothed

RESULT = Path(__file__).parent / "results" / "mappings.json"
PACKAGE = "llmcompressor"
FOLDER = "llmcompressor/modifiers/transform"
TABLES = {
    "AWQ": ("awq/mappings.py", "AWQ_MAPPING_REGISTRY", "default_mappings"),
    "SmoothQuant": ("smoothquant/utils.py", "MAPPINGS_REGISTRY", "DEFAULT_SMOOTHQUANT_MAPPINGS"),
}
OUTCOMES = ("right", "wrong", "packed", "unclear", "unused", "skipped", "no weight", "not matched")
SECONDS, TOLERANCE, MOST = 60, 1e-6, 20e6
Pair = tuple[str, tuple[str, ...]]
Patterns = list[tuple[str, list[str]]]


class TooLongError(BaseException):
    """Passes what catches any exception."""


def wheel() -> Path:
    """The newest wheel, in a folder of its own."""
    folder = Path(tempfile.mkdtemp())
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, PACKAGE], check=True)
    return next(folder.glob("*.whl"))


def read(source: str) -> dict[str, Any]:
    """The tables in a module, by name: what is assigned from lists, dictionaries, texts and calls of them."""
    names: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                names[target.id] = _value(node.value, names)
    return names


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    match node:
        case ast.List() | ast.Tuple():
            return [_value(item, names) for item in node.elts]
        case ast.Dict():
            return {_value(k, names): _value(v, names) for k, v in zip(node.keys, node.values, strict=True) if k}
        case ast.Call():
            given = [_value(item, names) for item in node.args]
            return given, {word.arg: _value(word.value, names) for word in node.keywords}
        case ast.Name():
            return names.get(node.id)
        case ast.Constant():
            return node.value
    return None


def patterns(table: list[tuple[list[Any], dict[str, Any]]]) -> Patterns:
    """(smooth pattern, balance patterns) of the entries of one table."""
    found = []
    for given, words in table:
        smooth = words.get("smooth_layers", given[0] if given else None)
        balance = words.get("balance_layers", given[1] if len(given) > 1 else None)
        found.append((smooth, balance))
    return found


def resolved(model: nn.Module, smooth: str, balance: list[str]) -> Iterator[Pair | None]:
    """The pairs of layers that an entry names in a model, nearest ones together; None where some pattern has none."""
    modules = [name for name, _ in model.named_modules() if name]
    for source in filter(lambda name: _matches(smooth, name), modules):
        readers: list[str] = []
        for pattern in balance:
            near = [name for name in modules if _matches(pattern, name)]
            most = max((_shared(source, name) for name in near), default=0)
            here = [name for name in near if _shared(source, name) == most and _layer(name) == _layer(source)]
            most = max((_alike(source, name) for name in here), default=0)
            here = [name for name in here if _alike(source, name) == most]
            if not here:
                yield None
                break
            readers += here
        else:
            yield source, tuple(dict.fromkeys(readers))


def _matches(pattern: str, name: str) -> bool:
    return bool(re.match(pattern[3:], name)) if pattern.startswith("re:") else pattern == name


def _shared(one: str, other: str) -> int:
    parts = zip(one.split(".")[:-1], other.split(".")[:-1], strict=False)
    return next((k for k, (a, b) in enumerate(parts) if a != b), min(one.count("."), other.count(".")))


def _alike(one: str, other: str) -> int:
    """How many letters two names begin with alike."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _layer(name: str) -> str:
    found = re.match(r".*?\.\d+\.", name)
    return found[0] if found else ""


def outcome(model: nn.Module, run: Any, pair: Pair) -> str:
    """ "right" or "wrong" by the proof; "skipped" where sizes do not fit and the tool leaves the pair out."""
    source, readers = pair
    weights = [getattr(model.get_submodule(name), "weight", None) for name in (source, *readers)]
    if any(weight is None for weight in weights):
        return "no weight"
    columns = weights[1].shape[1:2]
    sizes = {weight.shape[1:2] for weight in weights[1:]}
    if len(sizes) > 1 or not columns or columns[0] > weights[0].shape[0]:
        return "skipped"
    if source.endswith(".v_proj") and weights[0].shape[0] != columns[0]:
        return "skipped"
    s = torch.rand(columns[0], dtype=torch.float64) + 0.5
    state = smoothed(model, source, readers, s)
    if run(smoothed(model, source, (), s)) < TOLERANCE:
        return "unused"
    if run(state) < TOLERANCE:
        return "right"
    if weights[0].dim() == 1:  # a norm that multiplies by 1 + weight, which the tool knows
        state[f"{source}.weight"] = (1 + weights[0].detach()) / s - 1
        if run(state) < TOLERANCE:
            return "right"
    if len({name.rpartition(".")[0] for name in readers}) > 1:
        return "unclear"
    return "packed" if _is_packed(model, _layer(source)) else "wrong"


def _is_packed(model: nn.Module, layer: str) -> bool:
    """Whether a layer has matrices side by side in one parameter, other than kernels of convolutions."""
    parts = [
        part
        for name, part in model.named_modules()
        if name.startswith(layer) and not type(part).__name__.startswith("Conv")
    ]
    return any(parameter.dim() > 2 for part in parts for parameter in part.parameters(recurse=False))


def runner(model: nn.Module, args: Any, kwargs: Any) -> Any:
    """State dict -> |f(θ') - f(θ)| / |f(θ)|."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, (args, kwargs))

    def outputs() -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad():
            leaves = pytree.tree_leaves(model(*args, **kwargs))
        return [x.double() for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]

    before, own = outputs(), {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def run(state: dict[str, Tensor]) -> float:
        model.load_state_dict(state)
        after = outputs()
        model.load_state_dict(own)
        return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(before, after, strict=True))

    return run


def measure(kind: type[nn.Module], tables: dict[str, Patterns]) -> dict[str, Any]:
    """What the tables say of a model, and what is derived."""
    model, args, kwargs = built(kind)
    scales = pg.derive(model, args, kwargs, kinds="all").mappings().scales
    own = {(one.source, frozenset(one.readers)) for one in scales if one.plain}
    model = generic(model, 0)
    run = runner(model, args, kwargs)
    row: dict[str, Any] = {"ours": len(own), "tables": {}}
    for tool, entries in tables.items():
        named, judged = set(), dict.fromkeys(OUTCOMES, 0)
        wrong, missed = [], []
        for smooth, balance in entries:
            for pair in resolved(model, smooth, balance):
                how = "not matched" if pair is None else outcome(model, run, pair)
                judged[how] += 1
                if how == "wrong":
                    wrong.append(f"{pair[0]} → {', '.join(pair[1])}")
                if how == "right":
                    named.add((pair[0], frozenset(pair[1])))
                    if (pair[0], frozenset(pair[1])) not in own:
                        missed.append(f"{pair[0]} → {', '.join(pair[1])}")
        shared = len(named & own)
        row["tables"][tool] = judged | {
            "equal": shared,
            "ours more": len(own) - shared,
            "missed": missed,
            "wrong ones": wrong,
        }
    return row


def built(kind: type[nn.Module]) -> tuple[nn.Module, Any, Any]:
    """A small model of a class with as many key-value heads as heads, so that the tables apply, and its inputs."""
    problems = []
    for sizes, fields in small.VARIANTS:
        try:
            config = small.small(
                kind.config_class, {n: small.HEADS if "_kv_" in n or "key_value" in n else sizes[n] for n in fields}
            )
            config._experts_implementation = "eager"  # the grouped one has no float64
            with torch.device("meta"):
                size = sum(p.numel() for p in kind(config).parameters())
            if size > MOST:
                raise ValueError(f"{size:,} parameters")
            torch.manual_seed(0)
            return small._runnable(kind(config).float().eval())
        except Exception as error:  # whatever a model's own code raises
            problems.append(f"{type(error).__name__}: {str(error)[:100]}")
    raise RuntimeError("; ".join(dict.fromkeys(problems)))


def classes(registries: dict[str, dict[str, Any]]) -> list[str]:
    """Model classes that a table names, then those on which the tool falls back."""
    named = dict.fromkeys(name for registry in registries.values() for name in registry)
    causal = small.auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return [name for name in [*sorted(named), *sorted(set(causal) - set(named))] if hasattr(transformers, name)]


def _too_long(*_: Any) -> None:
    raise TooLongError(f"more than {SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a wheel of llm-compressor that is here already")
    parser.add_argument("--only", default="", help="classes with this in their names")
    parser.add_argument("--again", action="store_true", help="measure also what is measured")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    archive = options.wheel or wheel()
    with zipfile.ZipFile(archive) as file:
        modules = {tool: read(file.read(f"{FOLDER}/{path}").decode()) for tool, (path, _, _) in TABLES.items()}
    registries = {tool: modules[tool][registry] for tool, (_, registry, _) in TABLES.items()}
    data: dict[str, Any] = {
        "package": f"{PACKAGE} {archive.name.split('-')[1]}",
        "transformers": transformers.__version__,
        "classes": len(classes(registries)),
        "models": {},
    }
    if RESULT.exists() and not options.again:
        data["models"] = json.loads(RESULT.read_text())["models"]
    signal.signal(signal.SIGALRM, _too_long)
    for name in classes(registries):
        if options.only not in name or name in data["models"]:
            continue
        tables = {
            tool: patterns(registries[tool].get(name) or modules[tool][fallback])
            for tool, (_, _, fallback) in TABLES.items()
        }
        start = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            row = measure(getattr(transformers, name), tables)
        except (Exception, TooLongError) as error:  # whatever a model's own code raises
            row = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        signal.alarm(0)
        row["named"] = [tool for tool in registries if name in registries[tool]]
        data["models"][name] = row
        print(f"{name:42s} {time.perf_counter() - start:5.1f} s  {json.dumps(row)[:300]}", flush=True)
        RESULT.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
