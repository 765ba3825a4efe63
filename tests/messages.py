"""Every error message of permgraph is raised by some test: the whole run fails for one that is not.

`conftest.py` notes where each error that the tests meet was made, in all processes, and compares when a run of all
tests (slow ones left out or not) has passed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from permgraph import errors

ROOT = Path(__file__).parents[1]
FOLDERS = ("permgraph", "adapters")
OURS = {name for name in vars(errors) if name.endswith("Error")} | {"UsageError"}


class Recorder:
    """Notes the place, `file:line`, of every error of ours that is made."""

    def __init__(self) -> None:
        self.places: set[str] = set()

    def start(self) -> None:
        """Note from now on."""
        for kind in (errors.PermgraphError, typer.BadParameter):
            self._watch(kind)

    def _watch(self, kind: Any) -> None:
        made = kind.__init__

        def noting(error: Any, *args: Any, **more: Any) -> None:
            frame = sys._getframe(1)
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT):
                self.places.add(f"{path.relative_to(ROOT).as_posix()}:{frame.f_lineno}")
            made(error, *args, **more)

        kind.__init__ = noting


def made(root: Path = ROOT) -> Iterator[tuple[str, range, str]]:
    """(file, lines, text) of every place where an error is made."""
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) in OURS:
                text = [str(part.value).strip() for part in ast.walk(node) if isinstance(part, ast.Constant)]
                yield (
                    path.relative_to(root).as_posix(),
                    range(node.lineno, (node.end_lineno or 0) + 1),
                    " … ".join(text),
                )


def silent(found: Iterable[str], root: Path = ROOT) -> list[str]:
    """The messages that were raised at none of the places `found`: the place of each, and its text."""
    found = set(found)
    return [
        f"{file}:{lines.start}: {text[:140]}"
        for file, lines, text in made(root)
        if not any(f"{file}:{line}" in found for line in lines)
    ]
