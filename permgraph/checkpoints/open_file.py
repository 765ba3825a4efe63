"""A file that is read through one handle, so that what is hashed is what was read."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from pathlib import Path

from permgraph.checkpoints.json_files import unreadable
from permgraph.errors import CheckpointError

CHUNK = 1 << 20


class OpenFile:
    """The bytes of `path` as they are now: the handle refers to this file even if another gets its name.

    A file that shrinks or changes in place is an error, not a signal: nothing is mapped into memory.
    Raises CheckpointError where the file is absent or cannot be read, and names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise unreadable(path, error) from error
        weakref.finalize(self, os.close, handle)
        self._file = open(handle, "rb", buffering=0, closefd=False)  # noqa: SIM115 - as long as the handle
        self._lock = threading.Lock()
        self._opened = self._state()
        self._sha256 = ""

    def fileno(self) -> int:
        """The handle."""
        return self._file.fileno()

    @property
    def size(self) -> int:
        """Its length in bytes when it was opened."""
        return self._opened[0]

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on."""
        buffer = bytearray(count)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the bytes from `offset` on. Raises CheckpointError where the file ends before."""
        done = 0
        try:
            with self._lock:
                self._file.seek(offset)
                while done < len(buffer) and (count := self._file.readinto(buffer[done:])):
                    done += count
        except OSError as error:
            raise unreadable(self.path, error) from error
        if done < len(buffer):
            raise self._changed() if self._state()[0] < self.size else unreadable(self.path, "it ends too early")

    def sha256(self) -> str:
        """SHA-256 of the bytes, which are those of every read. Raises CheckpointError if the file changed meanwhile."""
        if not self._sha256:
            digest = hashlib.sha256()
            for offset in range(0, self.size, CHUNK):
                digest.update(self.read(offset, min(CHUNK, self.size - offset)))
            self.require_unchanged()
            self._sha256 = digest.hexdigest()
        return self._sha256

    def require_unchanged(self) -> None:
        """Raise CheckpointError if the file was written to since it was opened."""
        if self._state() != self._opened:
            raise self._changed()

    def _state(self) -> tuple[int, int]:
        found = os.fstat(self.fileno())
        return found.st_size, found.st_mtime_ns

    def _changed(self) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: was changed while it was read. Run the command again when it is complete."
        )
