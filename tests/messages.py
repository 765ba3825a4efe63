"""Which error messages of permgraph does no test raise?

    PERMGRAPH_MESSAGES=out/messages make slow && python tests/messages.py out/messages

With that variable the tests note where every PermgraphError that they meet was made (see `conftest.py`).
"""

from __future__ import annotations

import ast
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from permgraph import errors

ROOT = Path(__file__).parents[1]
FOLDERS = ("permgraph", "adapters")
OURS = {name for name in vars(errors) if name.endswith("Error")}


class Recorder:
    """Notes the place of every PermgraphError that is made, until it is written to a folder."""

    def __init__(self) -> None:
        self.places: set[str] = set()

    def start(self) -> None:
        """Note from now on."""

        def noting(error: Any, *args: Any) -> None:
            frame = sys._getframe(1)
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT):
                self.places.add(f"{path.relative_to(ROOT).as_posix()}:{frame.f_lineno}")
            Exception.__init__(error, *args)

        errors.PermgraphError.__init__ = noting  # type: ignore[method-assign]

    def write(self, folder: Path) -> None:
        """One file for each process."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{uuid.uuid4().hex}.txt").write_text("\n".join(sorted(self.places)))


def made() -> Iterator[tuple[str, range, str]]:
    """(file, lines, text) of every place where an error is made."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in OURS:
                text = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                words = " … ".join(str(part).strip() for part in text)
                yield path.relative_to(ROOT).as_posix(), range(node.lineno, (node.end_lineno or 0) + 1), words


def main() -> None:
    found = {line for path in Path(sys.argv[1]).glob("*.txt") for line in path.read_text().splitlines()}
    places = list(made())
    silent = [(f, lines, text) for f, lines, text in places if not any(f"{f}:{line}" in found for line in lines)]
    for file, lines, text in silent:
        print(f"{file}:{lines.start}: {text[:140]}")
    print(f"{len(places) - len(silent)} of {len(places)} messages are raised by some test")
    sys.exit(bool(silent))


if __name__ == "__main__":
    main()
