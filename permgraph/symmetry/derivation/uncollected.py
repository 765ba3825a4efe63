"""No collection of garbage while a derivation makes many objects that are all kept."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Switch Python's search for cycles off inside, if it was on; what is no longer referred to is freed as ever.

    It runs after every so many new objects and looks at all that there are: those of PyTorch, those of the trace and
    those of the derivation, which frees none of them in cycles. That took up to half of its time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
