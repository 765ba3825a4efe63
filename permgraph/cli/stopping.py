"""Signals that end a command: Ctrl-C, SIGTERM, a closed terminal."""

import signal
import sys
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_received: list[int] = []
_told: list[int] = []


class StoppedError(KeyboardInterrupt):
    """A signal asks the command to end: what is half-written is removed on the way out."""


def listen() -> None:
    """From now on, these signals raise `StoppedError`."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)


def received() -> bool:
    """Whether a signal has come: then an error may be what became of it, in a library that does not expect it."""
    return bool(_received)


def told() -> int:
    """The exit status of a command that was stopped; for Ctrl-C a line on stderr says so, once."""
    number = _received[0] if _received else signal.SIGINT
    if number == signal.SIGINT and not _told:
        print("interrupted", file=sys.stderr, flush=True)
        _told.extend(_received)
    return 128 + number


def _stop(number: int, frame: Any) -> None:
    _received.append(number)
    raise StoppedError
