"""Reads JSON files, and explains why a file cannot be read; without PyTorch, so that importing it is fast."""

import codecs
import json
from pathlib import Path
from typing import Any

from permgraph.errors import CheckpointError
from permgraph.wording import first_line, reason

MOST_BYTES = 100_000_000
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError naming the file where it is absent or holds no JSON object."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return json_object(path, path.read_bytes())
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def json_object(path: Path, raw: bytes) -> dict[str, Any]:
    """The object in the bytes of a JSON file. Raises CheckpointError where there is none."""
    if raw.startswith(MARKS):
        raise CheckpointError(
            f"{path}: begins with a byte order mark, as some editors write it. Save it as UTF-8 without one."
        )
    try:
        value = parse_json(raw.decode("utf-8"))
    except ValueError as error:
        raise unreadable(path, error) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(value).__name__}, not an object. Download the file again.")
    return value


def parse_json(text: str, *, once: bool = False) -> Any:
    """The value of a JSON text. Raises ValueError, also if it is nested too deep or, with `once`, repeats a name."""
    try:
        return json.loads(text, object_pairs_hook=_each_once if once else None)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def unreadable(path: Path, why: object) -> CheckpointError:
    """The error for a file that could not be read because of `why`, with the likeliest cure."""
    if isinstance(why, OSError) and not isinstance(why, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return CheckpointError(f"{path}: cannot be read: {reason(why)}. Check its name and rights.")
    if not path.is_file():
        return CheckpointError(f"{path}: no such file. Give the folder of a complete checkpoint.")
    damaged = "It is truncated or damaged: download it again"
    cure = "It is a git-lfs pointer: run `git lfs pull`" if is_lfs_pointer(path) else damaged
    return CheckpointError(f"{path} ({path.stat().st_size} bytes) cannot be read: {first_line(why)}. {cure}.")


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file only says where git-lfs keeps its contents."""
    with path.open("rb") as file:
        return file.read(40).startswith(b"version https://git-lfs")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found
