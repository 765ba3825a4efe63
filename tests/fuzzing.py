"""Odd values in the places of JSON: what a file that was damaged, or made to do harm, may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, -1, 7, 10**9, 2**31, 2**63, 2**70, 10**20, 0.5, -0.0, 1e300, "", "a", "../x", "/etc",
    "\0", "\x1b[31m", "null", [], {}, [0], [[]], [None], ["a"], {"a": 1}, [1, 2], "\ud800",
)  # fmt: skip


def mutated(value: Any, draw: np.random.Generator, odd: Sequence[Any] = ODD) -> Any:
    """A copy with one place of it replaced, and now and then one left out."""
    if isinstance(value, list | dict) and value and draw.random() < 0.9:
        keys = list(range(len(value))) if isinstance(value, list) else list(value)
        key = keys[draw.integers(len(keys))]
        copy = value.copy()
        copy[key] = mutated(value[key], draw, odd)
        if draw.random() < 0.05:
            del copy[key]
        return copy
    return odd[draw.integers(len(odd))]


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """The bytes with a few of them changed, and now and then cut."""
    found = bytearray(content)
    for place in draw.integers(0, len(found), draw.integers(1, 5)):
        found[place] = draw.integers(256)
    return bytes(found[: draw.integers(len(found)) if draw.random() < 0.1 else None])
