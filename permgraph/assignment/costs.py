"""The costs of an assignment: minus the values of pairs, and terms that break ties; a few rows or entries at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-9
"""What a unit earns by staying in place, relative to the largest |entry| of the matrix: it decides ties, no more."""

ROWS = 128  # at once, so that the preference of a large matrix is never held whole
KEPT = 8  # preferences of ROWS rows, for the next matrix of their size

Numbers = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Costs:
    """c[i, j] = -value[i, j] / max |value| - TOLERANCE · (preference[i, j] / n + 1 where i = j), without holding c."""

    value: npt.NDArray[np.floating]

    @property
    def size(self) -> int:
        """n."""
        return len(self.value)

    @cached_property
    def largest(self) -> float:
        """max |value|; NaN if there is one."""
        parts = [self.value[first : first + ROWS] for first in range(0, self.size, ROWS)]  # read once: they are cached
        return float(np.max([(rows.max(initial=0), -rows.min(initial=0)) for rows in parts], initial=0))

    def __iter__(self) -> Iterator[Numbers]:
        """All rows, ROWS at a time, float64."""
        return map(self.rows, range(0, self.size, ROWS))

    def rows(self, first: int) -> Numbers:
        """ROWS rows, float64."""
        kept = self.size <= KEPT * ROWS  # larger matrices would only evict each other
        preference = _preference if kept else _preference.__wrapped__
        rows: Numbers = np.divide(self.value[first : first + ROWS], -self.largest, dtype=np.float64, order="C")
        units = np.arange(len(rows))
        rows -= np.float32(TOLERANCE / self.size) * preference(first, first + len(rows), self.size)
        rows[units, first + units] -= TOLERANCE
        return rows

    def nearest(self, first: int) -> Index:
        """The cheapest column of each of ROWS rows; costs are computed only where a value is close to the largest."""
        values = self.value[first : first + ROWS]
        found: Index = values.argmax(1)
        close = values[np.arange(len(values)), found] - values.dtype.type(2 * TOLERANCE * self.largest)
        if np.count_nonzero(values >= np.nextafter(close, values.dtype.type(-np.inf))[:, None]) > len(values):
            found = self.rows(first).argmin(1)
        return found

    def rough(self) -> Iterator[npt.NDArray[np.float32]]:
        """The same rows in float32, without the terms that break ties."""
        narrow = self.value.dtype == np.float32 and 1e-30 < self.largest < 1e30
        for first in range(0, self.size, ROWS):
            rows = self.value[first : first + ROWS]
            if narrow:
                yield np.multiply(rows, np.float32(-1 / self.largest), order="C")
            else:
                yield np.divide(rows, -self.largest, dtype=np.float64, order="C").astype(np.float32)

    def at(self, rows: Index, columns: Index) -> Numbers:
        """Single costs, equal to those of the rows to the last bit."""
        found: Numbers = np.divide(self.value[rows, columns], -self.largest, dtype=np.float64)
        found -= np.float32(TOLERANCE / self.size) * _hashed(rows, columns)
        found[rows == columns] -= TOLERANCE
        return found


@lru_cache(maxsize=KEPT)
def _preference(first: int, last: int, size: int) -> npt.NDArray[np.float32]:
    return _hashed(np.arange(first, last)[:, None], np.arange(size))


def preference(first: int, last: int, size: int) -> npt.NDArray[np.float32]:
    """Rows of fixed numbers in [0, 1): float32, (i j · 2654435761 mod 2³²) / 2³² with i, j from 1 (Knuth's hash)."""
    return _preference(first, last, size)


def _hashed(rows: Index, columns: Index) -> npt.NDArray[np.float32]:
    hashed = (rows + 1).astype(np.uint32) * np.uint32(2654435761) * (columns + 1).astype(np.uint32)
    found: npt.NDArray[np.float32] = hashed.astype(np.float32) * np.float32(2**-32)
    return found
