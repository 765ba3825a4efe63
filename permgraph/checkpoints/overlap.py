"""Whether an output and an input share a place on the disk, by any path, link or mount."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from permgraph.errors import CheckpointError

Identity = tuple[int, int]


def require_apart(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output `folder` that is, holds, or is inside one of `inputs`, or what a link of theirs leads to.

    Places are compared by device and inode, so that neither links nor mounts hide one. Inputs that do not exist, as
    hub ids, are passed over. Raises CheckpointError naming both.
    """
    target = folder.resolve()
    out = {_identity(place) for place in (target, *target.parents)} - {None}
    itself = _identity(target)
    for given in inputs:
        for place in _places(given):
            same = _identity(place)
            above = {_identity(parent) for parent in place.parents}
            lies_in = place.is_dir() and same in out
            if not lies_in and (itself is None or (itself != same and itself not in above)):
                continue
            how = "is" if same == itself else "lies in" if lies_in else "holds"
            through = "" if place == given.resolve() else f" (by its link to {place})"
            raise CheckpointError(
                f"{folder}: {how} the input {given}{through}, which must stay as it is. Choose another folder."
            )


def _places(given: Path) -> Iterator[Path]:
    """The place of an input, and where the links in it lead to."""
    given = given.expanduser()
    if not given.exists():
        return
    yield given.resolve()
    for here, folders, files in os.walk(given):
        for entry in (Path(here, name) for name in (*folders, *files)):
            if entry.is_symlink() and entry.exists():
                yield entry.resolve()


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
