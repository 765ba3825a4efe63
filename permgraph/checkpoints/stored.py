"""What a weight file holds, before any of it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from permgraph.checkpoints.open_file import OpenFile


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `shape`, `dtype` and `file` are known without reading it; `read()` reads it.

    `rows(start, stop)` reads these rows alone, where the format lets it; None where the file has to be read as a whole.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    read: Callable[[], Tensor]
    rows: Callable[[int, int], Tensor] | None = None


@dataclass(frozen=True)
class WeightFile:
    """One file of weights: its tensors by name, and of everything else in it the name and why it is left out."""

    file: OpenFile
    tensors: Mapping[str, StoredTensor]
    left_out: Mapping[str, str] = field(default_factory=dict)
