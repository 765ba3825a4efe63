"""The fields of a recipe and their types, read from TOML or YAML."""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from permgraph.errors import OptionError
from permgraph.requirements import unusable
from permgraph.wording import reason

MOST, MOST_THREADS, MOST_BYTES = 2**63 - 1, 4096, 10_000_000


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a recipe by name, each of its type and within bounds.

    Raises OptionError naming the file and what is wrong in it.
    """
    values = _parsed(path)
    unknown = [str(name) for name in values if name not in READERS]
    if unknown:
        told = "For mergekit's `merge_method` and `- model: A`, write `merge: NAME` and `models: [A, B]`. "
        raise OptionError(
            f"{path}: unknown {', '.join(map(repr, unknown))}; a recipe has {', '.join(READERS)}. "
            f"{told if 'merge_method' in unknown else ''}Correct it."
        )
    read: dict[str, Any] = {}
    for name, value in values.items():
        try:
            read[name] = None if value is None else READERS[name](value)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise OptionError(
                f"{path}: {name} is {reprlib.repr(value)}, which cannot be read ({error}). Correct it."
            ) from error
    return {name: value for name, value in read.items() if value is not None}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise OSError(f"it has more than {MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else _yaml(path, text)
    except OptionError:
        raise
    except RecursionError:
        raise OptionError(f"{path}: cannot be read as a recipe: it is nested too deep. Correct it.") from None
    except (OSError, ValueError) as error:  # also bytes that are no UTF-8 and text that is no TOML
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
        raise OptionError(
            f"{path}: reading YAML needs {unusable('PyYAML', error, module='yaml')}; or write it as TOML."
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = str(error).replace("\n", " ")
        raise OptionError(f"{path}: cannot be read as a recipe: {reason}. Correct it.") from error


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of names is needed")
    return tuple(_text(item) for item in value)


def _commas(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(_words(value))


def _share(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={float(share)}" for name, share in value.items())
    return value if isinstance(value, str) else str(float(value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("text is needed")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is needed")
    return value


def _count(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("a whole number is needed")
        if not least <= value <= most:
            raise ValueError(f"a number from {least} to {most} is needed")
        return value

    return read


def _hashes(value: Any) -> dict[str, dict[str, str]]:
    return {
        _text(name): {_within(_text(file)): _text(sha256) for file, sha256 in files.items()}
        for name, files in value.items()
    }


def _within(file: str) -> str:
    parts = PurePosixPath(file).parts
    if not parts or ".." in parts or PurePosixPath(file).is_absolute():
        raise ValueError(f"{file!r} is not the name of a file in its folder")
    return file


def _options(value: Any) -> dict[str, Any]:
    return {_text(name): item for name, item in value.items()}


READERS: Mapping[str, Callable[[Any], Any]] = {
    "models": _words,
    "data": _text,
    "weight": _share,
    "merge": _text,
    "base": _text,
    "options": _options,
    "method": _text,
    "kinds": _text,
    "mix": float,
    "steps": _count(1, MOST),
    "groups": _commas,
    "limit": _count(1, MOST),
    "loss": _text,
    "seed": _count(0, MOST),
    "device": _text,
    "dtype": _text,
    "max_shard_size": _text,
    "max_memory": _text,
    "model": _text,
    "heads": _text,
    "enlarge": _flag,
    "threads": _count(1, MOST_THREADS),
    "out": _text,
    "sha256": _hashes,
}
