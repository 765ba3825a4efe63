"""Checks the fields of a `config.json` before anything is built from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from permgraph.errors import CheckpointError

MOST_LAYERS = 10_000
MOST = 1 << 40
DEPTHS = ("layers", "layer", "blocks", "depth", "depths")
"""Endings of fields that say how many modules are built, one after the other."""


def require_fields(path: Path, fields: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a field that no model can have: a class that is not a name, a number out of bounds."""
    if not isinstance(fields.get("model_type"), str):
        raise CheckpointError(f"{path}: has no `model_type`. Give a folder of a transformers model.")
    named = fields.get("architectures")
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise CheckpointError(f"{path}: `architectures` is not a list of class names. Correct that field.")
    for name, number in _numbers(fields, ""):
        bound = MOST_LAYERS if name.rsplit("_", 1)[-1].rsplit(".", 1)[-1] in DEPTHS else MOST
        if abs(number) > bound:
            raise CheckpointError(f"{path}: `{name}` is {number:.6g}, and at most {bound} can be. Correct that field.")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, bool):
        return
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, name)
