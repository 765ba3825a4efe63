"""How to match B with A, as a command line or a recipe asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from permgraph.errors import CalibrationError

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Matching:
    """How to match B with A: data, method or mix, groups by role or name, kinds.

    `data`: None by weights alone, SYNTHETIC for inputs that need none. `steps`: how many batches are learned from.
    `max_memory`: bytes of memory to stay within; weights are then read from their files as they are needed. `enlarge`:
    B may have fewer hidden units, heads and layers than A. `carry`: folders
    of adapters of B that move with it.
    """

    data: Path | None = None
    method: str | None = None
    groups: Sequence[str] | None = None
    limit: int | None = None
    mix: float | None = None
    kinds: str = "permutation"
    heads: str | None = None
    steps: int | None = None
    max_memory: int | None = None
    enlarge: bool = False
    carry: Sequence[Path] = ()
    _seen: dict[str, tuple[int, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seen", _files(self.data))

    def require_unchanged(self) -> None:
        """Raise CalibrationError if a file of the data came, went or was written to since this was made."""
        now, seen = _files(self.data), self._seen
        changed = sorted(path for path in now.keys() | seen.keys() if now.get(path) != seen.get(path))
        if changed:
            raise CalibrationError(f"{changed[0]}: was changed while the data was read. Run the command again.")

    @property
    def is_synthetic(self) -> bool:
        """Whether the inputs need no data; a folder of this name is data."""
        return self.data is not None and str(self.data) == SYNTHETIC and not self.data.is_dir()

    @property
    def options(self) -> dict[str, Any]:
        """The options of the method."""
        return {name: value for name in ("mix", "steps") if (value := getattr(self, name)) is not None}

    @property
    def shares(self) -> bool:
        """Whether several processes can share the work: moments of activations add up."""
        return self.data is not None and self.method in (None, "correlation", "mix")

    def inputs(self, models: Iterable[str]) -> tuple[str, ...]:
        """Paths that an output must not overwrite: the models that are folders or files, the data and the adapters."""
        return (*models, *map(str, (*([] if self.data is None else [self.data]), *self.carry)))


def _files(data: Path | None) -> dict[str, tuple[int, int]]:
    found = [] if data is None else [(str(path), path.stat()) for path in data.rglob("*") if path.is_file()]
    return {path: (state.st_size, state.st_mtime_ns) for path, state in found}
