"""Checks the inputs of a recipe: their bytes are unchanged, and they are nothing that its author should not reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from permgraph.checkpoints.reading import file_sha256
from permgraph.errors import OptionError
from permgraph.jobs.recipe import Request

CODE = "python:"
MADE = (CODE, "timm:")


def require_trusted(request: Request, typed: Request) -> None:
    """Refuse what a recipe from someone else could do harm with, unless it was also typed: a recipe is only data.

    It may not name code or write outside its folder. It may read files outside only if it lists their SHA-256, which
    shows that its author has read them. Raises OptionError naming the field.
    """
    home = Path(str(request.origin)).resolve().parent
    own = {name: value for name in NAMES if (value := getattr(request, name)) and not getattr(typed, name)}
    for name, value in own.items():
        for text in value if isinstance(value, tuple) else (value,):
            path = Path(text).expanduser()
            inside = home in path.resolve().parents
            known = text in (request.sha256 or {}) and name != "out"
            if text.startswith(CODE):
                what = "is code"
            elif (name == "out" or path.exists()) and name in PLACES and not inside and not known:
                what = "lies outside of its folder" + ("" if name == "out" else ", and the recipe has no hashes of it")
            else:
                continue
            raise OptionError(
                f"{request.origin}: {name} {text} {what}. If you trust the recipe, give --allow-code, or give that "
                "on the command line."
            )


NAMES = ("models", "data", "base", "loss", "model", "out")
PLACES = ("models", "data", "base", "out")


def require_unchanged(recipe: Path, request: Request) -> None:
    """Raise OptionError naming the first input whose bytes are not those that the recipe was written for."""
    for name, files in (request.sha256 or {}).items():
        if name.startswith(MADE):  # compared when it is made
            continue
        for file, sha256 in files.items():
            path = Path(name) if Path(name).is_file() else Path(name) / file
            if not path.is_file() or file_sha256(path) != sha256:
                what = "has other bytes than" if path.is_file() else "is not there as"
                raise OptionError(
                    f"{recipe}: {path} {what} when the recipe was written (SHA-256 {sha256[:12]}…). Get that file "
                    "back, or take the [sha256] tables out of the recipe to merge what is there now."
                )


def require_read(request: Request, hashes: Sequence[Mapping[str, str]]) -> None:
    """The same for models that were read already; `hashes` are in the order of the request."""
    for name, found in zip(request.references, hashes, strict=True):
        listed = (request.sha256 or {}).get(name)
        wrong = [] if listed is None else [file for file, sha256 in found.items() if listed.get(file) != sha256]
        if wrong:
            raise OptionError(
                f"{request.origin}: {wrong[0]} of {name} has other bytes than when the recipe was written. Get them "
                "back, or take the [sha256] tables out of the recipe to merge what is there now."
            )


def local_hashes(names: Sequence[str], found: Sequence[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The hashes of what was read from each local model or folder; a hub id is left out, as its files may change."""
    known = [name for name in names if Path(name).exists() or name.startswith(MADE)]
    return {name: dict(files) for name, files in zip(names, found, strict=True) if files and name in known}
