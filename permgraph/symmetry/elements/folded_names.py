"""Names that differ only in their numbers, as one pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def fold(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Names that differ only in their numbers, as one pattern: `layers.0–31.heads` -> its names."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return [(pattern_of(members), members) for members in found.values()]


def pattern_of(names: Sequence[str]) -> str:
    """The one pattern of names with the same words: each number as the range of its values."""
    columns = list(zip(*(re.findall(r"\d+", name) for name in names), strict=True))
    texts = iter(_ranges(sorted({int(n) for n in column})) for column in columns)
    return re.sub(r"\d+", lambda _: next(texts), names[0])


def _ranges(numbers: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][-1] + 1 == n:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
