"""Returns freed memory to the system, which C libraries do late or never."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def return_freed() -> None:
    """Return the pages of freed blocks to the system if the C library can (glibc's malloc_trim); else do nothing.

    glibc takes blocks below 32 MB from one heap, in which a small live block keeps freed memory around it from being
    returned. The matrices of a search have many sizes that do not fit into each other's gaps, and without this call the
    process grows to more than twice the live memory. A call takes a few milliseconds.
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
