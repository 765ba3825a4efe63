"""How much of the calibration data a job read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from permgraph.comparing.batches import Batches, Reading


@dataclass(frozen=True)
class DataRead:
    """How much was read, None without data or where none of it was read to its end; and remarks of the reader."""

    reading: Reading | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Batches | None) -> DataRead:
        """What was read of `data` so far."""
        return cls() if data is None else cls(data.read, data.notes)

    def __str__(self) -> str:
        return "" if self.reading is None else f"calibration data: {self.reading}"

    def into(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """A record that also has it, with its data."""
        inputs = report["inputs"]
        if self.reading is None or inputs["data"] is None:
            return dict(report)
        data = inputs["data"] | asdict(self.reading) | {"notes": list(self.notes)}
        return dict(report) | {"inputs": inputs | {"data": data}}
