"""Do tables of smooth and balance layers, written by hand for each architecture, agree with what is derived?

    python -m benchmarks.mappings.run [--wheel FILE] [--only PATTERN] [--again]

Reads the AWQ and SmoothQuant tables of llm-compressor out of its wheel (fetched by pip, without its dependencies), as
syntax. For each model class of transformers that the tables name, and each causal language model, for which the tool
falls back on its default tables, a small model is built (`sweep/transformers_models.py`) with generic weights in
float64. Each pair of theirs is put to the proof: rows divided, columns multiplied, outputs compared. Writes
`benchmarks/results/mappings.json` after every model, and goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

import permgraph as pg
from benchmarks.mappings.entries import FOLDER, PACKAGE, TABLES, Patterns, patterns, read, resolved, wheel
from benchmarks.mappings.proof import OUTCOMES, outcome, runner

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import transformers_models as small
from judge import generic

from benchmarks.measured_with import measured_with

RESULT = Path(__file__).parents[1] / "results" / "mappings.json"
SECONDS, MOST = 60, 20e6


class TooLongError(BaseException):
    """Passes what catches any exception."""


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
            "more ones": sorted(f"{source} → {', '.join(sorted(readers))}" for source, readers in own - named),
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
    parser.add_argument("--only", default="", help="classes whose names match this pattern")
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
    if RESULT.exists():
        data["models"] = json.loads(RESULT.read_text())["models"]
    signal.signal(signal.SIGALRM, _too_long)
    for name in classes(registries):
        if not re.search(options.only, name) or (name in data["models"] and not options.again):
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
        data["models"][name] = row | {"measured": measured_with()}
        print(f"{name:42s} {time.perf_counter() - start:5.1f} s  {json.dumps(row)[:300]}", flush=True)
        RESULT.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
