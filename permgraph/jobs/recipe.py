"""Recipes: all that a merge was asked for, in TOML or YAML, so that it can be run again, bit for bit on one machine."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from permgraph.checkpoints.reading import file_sha256
from permgraph.errors import OptionError, reason

FILE = "recipe.toml"
APART = ("sha256", "out", "origin", "options")
HEAD = f"# Runs this merge again: permgraph merge --config {FILE} --out DIR\n# Folders are relative to this file's.\n"


@dataclass(frozen=True)
class Request:
    """What `merge` was asked for, as typed; None where nothing was said.

    `threads` is how many PyTorch computes with, which decides the order of sums. `sha256` maps a model or the data to
    its files' hashes. `origin` is the recipe that it was read from.
    """

    models: tuple[str, ...] = ()
    data: str | None = None
    weight: str | None = None
    merge: str | None = None
    base: str | None = None
    options: Mapping[str, Any] | None = None
    method: str | None = None
    mix: float | None = None
    groups: str | None = None
    limit: int | None = None
    loss: str | None = None
    seed: int | None = None
    device: str | None = None
    threads: int | None = None
    out: str | None = None
    sha256: Mapping[str, Mapping[str, str]] | None = None
    origin: str | None = field(default=None, compare=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What an output must not touch: models that are folders or files, the data, the recipe."""
        return (*self.models, *filter(None, (self.base, self.data, self.origin)))

    def over(self, other: Request) -> Request:
        """This request, and what `other` says where this one says nothing."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) not in (None, ())}
        return replace(other, **said)


def read_recipe(path: Path) -> Request:
    """The request in a `.toml`, `.yaml` or `.yml` file; its folders are looked for beside it.

    Raises OptionError naming the file and what is wrong in it.
    """
    values = _parsed(path)
    unknown = [name for name in values if name not in READERS]
    if unknown:
        raise OptionError(
            f"{path}: unknown {', '.join(map(repr, unknown))}; a recipe has {', '.join(READERS)}. Correct it."
        )
    read: dict[str, Any] = {}
    for name, value in values.items():
        try:
            read[name] = None if value is None else READERS[name](value)
        except (TypeError, ValueError, AttributeError) as error:
            raise OptionError(f"{path}: {name} is {value!r}, which cannot be read ({error}). Correct it.") from error
    request = Request(**read)
    hashes = request.sha256 and {_beside(path, name): files for name, files in request.sha256.items()}
    models = tuple(_beside(path, model) for model in request.models)
    data, base = (name and _beside(path, name) for name in (request.data, request.base))
    return replace(request, models=models, data=data, base=base, sha256=hashes, origin=str(path))


def recipe_text(request: Request, folder: Path) -> str:
    """The request as TOML, to lie in `folder`."""
    hashes = {_seen_from(folder, name): files for name, files in (request.sha256 or {}).items()}
    models = [_seen_from(folder, model) for model in request.models]
    values = {f.name: getattr(request, f.name) for f in fields(request) if f.name not in APART}
    values |= {"models": models, "data": request.data and _seen_from(folder, request.data)}
    values["base"] = request.base and _seen_from(folder, request.base)
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]
    lines += [f"options.{json.dumps(name)} = {json.dumps(value)}" for name, value in (request.options or {}).items()]
    for name, files in hashes.items():
        lines += ["", f"[sha256.{json.dumps(name)}]", *(f"{json.dumps(f)} = {json.dumps(h)}" for f, h in files.items())]
    return HEAD + "\n".join(lines) + "\n"


def require_unchanged(recipe: Path, request: Request) -> None:
    """Raise OptionError naming the first input whose bytes are not those that the recipe was written for."""
    for name, files in (request.sha256 or {}).items():
        for file, sha256 in files.items():
            path = Path(name) / file
            if not path.is_file() or file_sha256(path) != sha256:
                what = "has other bytes than" if path.is_file() else "is not there as"
                raise OptionError(
                    f"{recipe}: {path} {what} when the recipe was written (SHA-256 {sha256[:12]}…). Get that file "
                    "back, or take the [sha256] tables out of the recipe to merge what is there now."
                )


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else _yaml(path, text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(
            f"{path}: cannot be read as a recipe: {reason(error)}. Give a .toml or .yaml file."
        ) from error
    if not isinstance(values, dict):
        raise OptionError(f"{path}: holds a {type(values).__name__}, not a table of options. Write `models: [A, B]`.")
    return values


def _yaml(path: Path, text: str) -> Any:
    if path.suffix not in (".yaml", ".yml"):
        raise OptionError(f"{path}: a recipe is a .toml, .yaml or .yml file. Rename it.")
    try:
        import yaml
    except ImportError as error:
        raise OptionError(f"{path}: reading YAML needs PyYAML: pip install pyyaml, or write it as TOML.") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = str(error).replace("\n", " ")
        raise OptionError(f"{path}: cannot be read as a recipe: {reason}. Correct it.") from error


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of names is needed")
    return tuple(value)


def _commas(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(_words(value))


def _share(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={float(share)}" for name, share in value.items())
    return value if isinstance(value, str) else str(float(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text is needed")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number is needed")
    return value


def _hashes(value: Any) -> dict[str, dict[str, str]]:
    return {str(name): {str(file): _text(sha256) for file, sha256 in files.items()} for name, files in value.items()}


def _options(value: Any) -> dict[str, Any]:
    return {str(name): item for name, item in value.items()}


READERS: Mapping[str, Callable[[Any], Any]] = {
    "models": _words,
    "data": _text,
    "weight": _share,
    "merge": _text,
    "base": _text,
    "options": _options,
    "method": _text,
    "mix": float,
    "groups": _commas,
    "limit": _count,
    "loss": _text,
    "seed": _count,
    "device": _text,
    "threads": _count,
    "out": _text,
    "sha256": _hashes,
}


def _beside(recipe: Path, name: str) -> str:
    """A folder beside the recipe where there is one, else the name as it is: a hub id, `python:` or `timm:`."""
    path = recipe.parent / name
    return os.path.normpath(path) if path.exists() else name


def _seen_from(folder: Path, name: str) -> str:
    path = Path(name).expanduser()
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix() if path.exists() else name


def local_hashes(names: Sequence[str], found: Sequence[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The hashes of the files in each folder; a hub id and code have none to compare with."""
    return {name: dict(files) for name, files in zip(names, found, strict=True) if files and Path(name).is_dir()}
