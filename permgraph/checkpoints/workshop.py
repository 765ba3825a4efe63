"""The temporary folder in which an output is made, and the removal of those that killed runs left."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2s
from pathlib import Path

from permgraph.checkpoints.json_files import read_json
from permgraph.errors import CheckpointError

RECORD = "permgraph.json"
"""In every folder that permgraph writes; its "files" names all that was written there."""
LONGEST = 200
"""Bytes of a name to which a number and a suffix are added; file systems allow 255."""


class Workshop:
    """A folder under a temporary name, locked while its process lives.

    The name is `name`, a unique number, and `.partial`. If such a folder is not locked, its run was killed.
    """

    SUFFIXES = (".partial", ".old")

    def __init__(self, parent: Path, name: str) -> None:
        self.path = parent / f".{name}.{uuid.uuid4().hex[:8]}.partial"
        self.path.mkdir()
        self._lock = lock(self.path)

    def close(self) -> None:
        """Remove what is left of it, and the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def lock(folder: Path) -> int | None:
    """A handle that holds `folder` for this process until it is closed; None where another holds it, or none can."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def clear_leftovers(target: Path) -> None:
    """Remove what killed runs left of `target`, and bring back a folder that one of them had set aside.

    Raises CheckpointError where a run that still lives is writing it.
    """
    for partial in sorted(target.glob(".permgraph.????????.partial")) if target.is_dir() else []:
        with _unlocked(target, partial):
            _undo(partial, target)
    beside = target.parent.iterdir() if target.parent.is_dir() else ()
    stem = f".{stem_of(target)}."
    for path in sorted(p for p in beside if p.name.startswith(stem) and p.suffix in Workshop.SUFFIXES):
        if len(path.name) != len(stem) + 8 + len(path.suffix):
            continue
        with _unlocked(target, path):
            if path.suffix == ".old" and not target.exists():
                os.rename(path, target)
            else:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _unlocked(target: Path, leftover: Path) -> Iterator[None]:
    held = lock(leftover)
    if held is None:
        raise CheckpointError(
            f"{target}: another run is writing it, in {leftover.name}. Wait until it ends, or choose another folder."
        )
    try:
        yield
    finally:
        os.close(held)


def _undo(partial: Path, target: Path) -> None:
    """Remove `partial` and what was moved out of it before its run was killed; nothing, once the record was moved."""
    if (partial / RECORD).is_file():
        names = read_json(partial / RECORD).get("files", [])
        for top in sorted({part for name in names for part in Path(str(name)).parts[:1]} - {"..", "/"}):
            if not (partial / top).exists() and (target / top).exists():
                _remove(target / top)
    shutil.rmtree(partial, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def stem_of(target: Path) -> str:
    """The name for what is temporary: that of the target, or a digest where there would be no room for more letters."""
    raw = os.fsencode(target.name)
    return target.name if len(raw) <= LONGEST else blake2s(raw, digest_size=8).hexdigest()
