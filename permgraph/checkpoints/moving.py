"""Flushes folders to the disk, and exchanges two in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Any

AT_FDCWD, RENAME_EXCHANGE = -100, 2
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""What a system says that cannot exchange two names at all."""


def sync_tree(folder: Path) -> None:
    """Flush everything in `folder` to the disk, so that a power cut after the move leaves no empty files."""
    for here, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(here, name))
        sync(Path(here))


def exchange(new: Path, target: Path) -> Path:
    """Replace `target` by `new`; returns the path to which the old `target` was moved.

    If the system can exchange names, `target` exists at every moment. Otherwise the old one is first renamed to a name
    that ends in `.old`, which `clear_leftovers` finds again.
    """
    try:
        _rename_exchange(new, target)
        return new
    except OSError as error:
        if error.errno not in NO_EXCHANGE:
            raise
    old = new.with_name(new.name.removesuffix(".partial") + ".old")
    os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(old, target)
        raise
    return old


def exchange_back(new: Path, target: Path, old: Path) -> None:
    """Undo `old = exchange(new, target)`."""
    if old == new:
        exchange(new, target)
    else:
        os.rename(target, new)
        os.rename(old, target)


def _rename_exchange(new: Path, target: Path) -> None:
    """Linux's renameat2. Raises OSError, ENOSYS where there is none."""
    rename: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(target), RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
