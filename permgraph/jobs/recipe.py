"""Recipes: all options of a merge in TOML or YAML, to run it again, bit for bit on the same machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from permgraph.errors import OptionError
from permgraph.jobs.recipe_fields import read_fields
from permgraph.wording import few

FILE = "recipe.toml"
APART = ("sha256", "out", "origin", "options")
HEAD = f"# Runs this merge again: permgraph merge --config {FILE} --out DIR\n# Folders are relative to this file's.\n"


@dataclass(frozen=True)
class Request:
    """The options of `merge` as typed; None for options that were not given.

    `threads`: PyTorch's number of threads, which decides the order of sums. `sha256`: a model or the data -> the hashes
    of its files. `origin`: the recipe that the request was read from.
    """

    models: tuple[str, ...] = ()
    data: str | None = None
    weight: str | None = None
    merge: str | None = None
    base: str | None = None
    options: Mapping[str, Any] | None = None
    method: str | None = None
    mix: float | None = None
    steps: int | None = None
    groups: str | None = None
    kinds: str | None = None
    limit: int | None = None
    loss: str | None = None
    seed: int | None = None
    device: str | None = None
    dtype: str | None = None
    max_shard_size: str | None = None
    max_memory: str | None = None
    model: str | None = None
    heads: str | None = None
    enlarge: bool | None = None
    threads: int | None = None
    out: str | None = None
    sha256: Mapping[str, Mapping[str, str]] | None = None
    origin: str | None = field(default=None, compare=False)

    @property
    def references(self) -> tuple[str, ...]:
        """The models to be loaded, the base of task vectors last."""
        return (*self.models, *filter(None, (self.base,)))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths that an output must not overwrite: models that are folders or files, the data, the recipe."""
        return (*self.references, *filter(None, (self.data, self.origin)))

    def over(self, other: Request) -> Request:
        """This request, completed by `other` where this one gives nothing."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) not in (None, ())}
        return replace(other, **said)


def read_recipe(path: Path) -> Request:
    """The request in a `.toml`, `.yaml` or `.yml` file; its paths are relative to its folder.

    Raises OptionError naming the file and what is wrong in it.
    """
    request = Request(**read_fields(path))
    strangers = [name for name in request.sha256 or {} if name not in (*request.references, request.data)]
    if strangers:
        raise OptionError(
            f"{path}: sha256 has {few(strangers)}, which is no model, base or data of the recipe. Correct it."
        )
    hashes = request.sha256 and {_beside(path, name): files for name, files in request.sha256.items()}
    models = tuple(_beside(path, model) for model in request.models)
    data, base = (name and _beside(path, name) for name in (request.data, request.base))
    out = request.out and os.path.join(path.parent, request.out)
    return replace(request, models=models, data=data, base=base, out=out, sha256=hashes, origin=str(path))


def recipe_text(request: Request, folder: Path) -> str:
    """The request as TOML, with paths relative to `folder`."""
    hashes = {_seen_from(folder, name): files for name, files in (request.sha256 or {}).items()}
    models = [_seen_from(folder, model) for model in request.models]
    values = {f.name: getattr(request, f.name) for f in fields(request) if f.name not in APART}
    values |= {"models": models, "data": request.data and _seen_from(folder, request.data)}
    values["base"] = request.base and _seen_from(folder, request.base)
    values["weight"] = _number(request.weight)
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]
    lines += [f"options.{json.dumps(name)} = {json.dumps(value)}" for name, value in (request.options or {}).items()]
    for name, files in hashes.items():
        lines += ["", f"[sha256.{json.dumps(name)}]", *(f"{json.dumps(f)} = {json.dumps(h)}" for f, h in files.items())]
    return HEAD + "\n".join(lines) + "\n"


def _number(weight: str | None) -> float | str | None:
    """A share as a number; shares by role stay text."""
    try:
        return None if weight is None else float(weight)
    except ValueError:
        return weight


def _beside(recipe: Path, name: str) -> str:
    """A path relative to the recipe's folder if it exists, else the name as it is: a hub id, `python:` or `timm:`."""
    path = recipe.parent / name
    return os.path.normpath(path) if path.exists() else name


def _seen_from(folder: Path, name: str) -> str:
    path = Path(name).expanduser()
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix() if path.exists() else name
