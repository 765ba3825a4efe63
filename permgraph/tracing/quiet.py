"""Silences log records and warnings in one thread, while it traces a model; other threads keep theirs."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


def _is_quiet() -> bool:
    return getattr(_here, "depth", 0) > 0


class _Records(logging.Filter):
    """Passes the records of threads that are not quiet."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_quiet()


class _InQuietThreads(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _is_quiet()


class _Warnings(Warning, metaclass=_InQuietThreads):
    """Every category of warnings is a subclass of this in a quiet thread, and none in another."""


_records = _Records()


@contextmanager
def quiet() -> Iterator[None]:
    """No log records and no warnings from this thread.

    The filters added to loggers and warnings stay there: they have no effect in other threads, and removing them could
    interfere with a thread that is reading them.
    """
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger) and _records not in logger.filters:
            logger.addFilter(_records)
    warnings.simplefilter("ignore", _Warnings)
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1
