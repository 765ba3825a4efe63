"""A folder with an adapter as PEFT writes it: read as tensors and a config, and written again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from permgraph.checkpoints.foreign import ADAPTER
from permgraph.checkpoints.json_files import read_json
from permgraph.checkpoints.reading import open_checkpoint
from permgraph.checkpoints.sharding import write_tensors
from permgraph.errors import CheckpointError

WEIGHTS = "adapter_model.safetensors"
STORED = (WEIGHTS, "adapter_model.bin")


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter: the name of its folder, its config and its tensors, named as PEFT names them."""

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> AdapterFolder:
        """The adapter in `folder`. Raises CheckpointError where there is none, or one that cannot be read."""
        path = next((folder / name for name in STORED if (folder / name).is_file()), None)
        if path is None or not (folder / ADAPTER).is_file():
            raise CheckpointError(
                f"{folder}: is not an adapter (looked for {ADAPTER} and {STORED[0]}). Give a folder that PEFT wrote."
            )
        return cls(folder.resolve().name, read_json(folder / ADAPTER), dict(open_checkpoint(path)))

    def moved(self, tensors: Mapping[str, Tensor], base: str) -> AdapterFolder:
        """The same with other tensors, for the model in the folder `base`."""
        return replace(self, tensors=tensors, config={**self.config, "base_model_name_or_path": base, "revision": None})

    def write(self, folder: Path) -> None:
        """Into a folder of its name within one that is being made."""
        place = folder / self.name
        place.mkdir()
        (place / ADAPTER).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        write_tensors(place / WEIGHTS, self.tensors)
