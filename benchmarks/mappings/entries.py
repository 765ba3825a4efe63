"""The tables of smooth and balance layers in llm-compressor, read as syntax, and the layers that they name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

PACKAGE = "llmcompressor"
FOLDER = "llmcompressor/modifiers/transform"
TABLES = {
    "AWQ": ("awq/mappings.py", "AWQ_MAPPING_REGISTRY", "default_mappings"),
    "SmoothQuant": ("smoothquant/utils.py", "MAPPINGS_REGISTRY", "DEFAULT_SMOOTHQUANT_MAPPINGS"),
}


Pair = tuple[str, tuple[str, ...]]
Patterns = list[tuple[str, list[str]]]


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
            here = [name for name in near if _shared(source, name) == most and layer_of(name) == layer_of(source)]
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


def layer_of(name: str) -> str:
    found = re.match(r".*?\.\d+\.", name)
    return found[0] if found else ""
