"""How tensors are stored: as which dtype, in which file; and the files of weights written so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import like, memory_of, slabs_of
from permgraph.checkpoints.reading import require_finite
from permgraph.checkpoints.safetensors_writing import write_safetensors
from permgraph.errors import CheckpointError, OptionError

MAX_SHARD_BYTES = 5_000_000_000
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Storage:
    """Each tensor's dtype by name, `default` for the others (None: its own); only floating point is converted.

    `shards` is the file of each tensor, as of the model whose files are imitated; empty for files of at most
    `max_shard_bytes`. `stem` begins the name of every file.
    """

    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    default: torch.dtype | None = None
    shards: Mapping[str, str] = field(default_factory=dict)
    max_shard_bytes: int = MAX_SHARD_BYTES
    stem: str = "model"

    def dtype(self, name: str, tensor: Tensor) -> torch.dtype:
        """The dtype in which a tensor is stored."""
        wanted = self.dtypes.get(name, self.default or tensor.dtype)
        return wanted if tensor.is_floating_point() and wanted.is_floating_point else tensor.dtype

    def size(self, name: str, tensor: Tensor) -> int:
        """The bytes that it takes in the file."""
        return tensor.numel() * self.dtype(name, tensor).itemsize

    def split(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of each file. A tensor whose file is not known goes into that of the tensor before it."""
        files: dict[str, dict[str, Tensor]] = {}
        here, size = "", 0
        for name, tensor in tensors.items():
            if self.shards:
                here = self.shards.get(name, here or next(iter(self.shards.values())))
            elif size and size + self.size(name, tensor) > self.max_shard_bytes:
                here, size = f"{len(files)}", 0
            size += self.size(name, tensor)
            files.setdefault(here, {})[name] = tensor
        return [files[name] for name in (sorted(files) if self.shards else files)] or [{}]


def dtype_of(dtype: str | torch.dtype) -> torch.dtype:
    """float16, bfloat16, float32 or float64. Raises OptionError for any other."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise OptionError(f"the dtype is one of {', '.join(DTYPES)}, not {name!r}")
    return DTYPES[name]


def bytes_of(text: str) -> int:
    """A size like 500MB, 2GB or 1GiB in bytes. Raises OptionError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2].upper() not in UNITS or float(found[1]) * UNITS[found[2].upper()] < 1:
        raise OptionError(f"a size is a number of bytes, KB, MB, GB, KiB, MiB or GiB, such as 2GB, not {text!r}")
    return int(float(found[1]) * UNITS[found[2].upper()])


def size_of(count: int) -> str:
    """Bytes for people: 6.0 GB, 120 MB, 60 KB."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"


def write_weights(folder: Path, state_dict: Mapping[str, Tensor], storage: Storage | None = None) -> None:
    """`model.safetensors`, or its shards and index, in a folder that exists; shared tensors are written once.

    One tensor is made, converted and written at a time. The metadata maps the name left out to the name kept, as
    `safetensors.torch.save_model` does. Raises CheckpointError for a value past the largest of its dtype, and
    NonFiniteError for one that is not finite.
    """
    storage = storage or Storage()
    kept, aliases = _unshared(like(state_dict))
    shards = storage.split(kept)
    if len(shards) == 1:
        return _save(folder / f"{storage.stem}.safetensors", shards[0], aliases, storage, state_dict)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"{storage.stem}-{number:05}-of-{len(shards):05}.safetensors"
        _save(folder / name, shard, aliases, storage, state_dict)
        weight_map.update(dict.fromkeys(shard, name))
    total = sum(storage.size(name, tensor) for name, tensor in kept.items())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{storage.stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], storage: Storage | None = None) -> None:
    """Write one safetensors file of tensors that are not a whole model; tied tensors are written once."""
    kept, aliases = _unshared(like(tensors))
    _save(path, kept, aliases, storage or Storage(), tensors)


def _unshared(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    first: dict[Any, str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        original = first.setdefault(memory_of(tensor), name)
        if original != name:
            aliases[name] = original
    return {name: tensor for name, tensor in tensors.items() if name not in aliases}, aliases


def _save(
    path: Path,
    known: Mapping[str, Tensor],
    aliases: Mapping[str, str],
    storage: Storage,
    state: Mapping[str, Tensor],
) -> None:
    def make(name: str) -> Iterator[Tensor]:
        for tensor in slabs_of(state, name):
            require_finite({name: tensor}, "the weights to be written")
            yield _converted(name, tensor.detach().cpu(), storage.dtype(name, tensor))

    tensors = {name: (tuple(tensor.shape), storage.dtype(name, tensor)) for name, tensor in known.items()}
    write_safetensors(path, tensors, make, {alias: kept for alias, kept in aliases.items() if kept in tensors})


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dtype == dtype or not tensor.numel():
        return tensor.to(dtype)
    most = float(tensor.abs().where(tensor.isfinite(), 0).max())  # a mask stays infinite
    if most > torch.finfo(dtype).max:
        short = str(dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{name}: holds {most:.4g}, and the largest {short} is {torch.finfo(dtype).max:.4g}. Write another dtype "
            "with --dtype, as bfloat16 or float32."
        )
    return tensor.to(dtype)
