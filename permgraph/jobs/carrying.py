"""`align --carry`: adapters of B that are moved with B and written into its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from permgraph.checkpoints.adapter_folder import AdapterFolder
from permgraph.errors import OptionError


@dataclass(frozen=True)
class Carried:
    """Adapters by the names of their folders."""

    adapters: tuple[AdapterFolder, ...] = ()

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Carried:
        """The adapters in `folders`. Raises CheckpointError if one has none, OptionError if two have the same name."""
        found = tuple(AdapterFolder.read(folder) for folder in folders)
        again = [name for name, count in Counter(one.name for one in found).items() if count > 1]
        if again:
            raise OptionError(f"two folders to carry are called {again[0]}, the name each is written by: rename one")
        return cls(found)

    def moved(self, apply: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], out: Path) -> Carried:
        """The same for B as it is moved and written to `out`. Raises SpecMismatchError as `Alignment.apply` does."""
        return Carried(tuple(one.moved(apply(one.tensors), str(out)) for one in self.adapters))

    def write(self, folder: Path) -> None:
        """Write each adapter into a subfolder of its name."""
        for one in self.adapters:
            one.write(folder)

    def __str__(self) -> str:
        names = ", ".join(one.name for one in self.adapters)
        return f"adapters of B, moved with it: {names}" if names else ""
