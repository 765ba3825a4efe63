"""Freed memory handed back to the system, which C libraries do late or never."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def return_freed() -> None:
    """Give the pages of freed blocks back to the system where the C library can (glibc's malloc_trim); else nothing.

    glibc takes blocks below 32 MB from one heap, where a small one that lives on keeps what was freed around it: the
    matrices of a search come and go in sizes that do not fit into each other's holes, and without this the process
    grows by more than twice what is alive at once. A few milliseconds a call.
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found
