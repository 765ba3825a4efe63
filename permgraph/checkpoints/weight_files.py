"""Reads one file of a checkpoint, safetensors or a pickled state dict, and says what is wrong with it."""

import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from permgraph.checkpoints.json_files import is_lfs_pointer, shorten, unreadable
from permgraph.errors import CheckpointError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `shape`, `dtype` and `file` are known without reading it; `read()` reads it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    read: Callable[[], Tensor]


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Name to tensor for one `.safetensors` or pickled file; no tensor is in memory yet (files are mapped).

    Raises CheckpointError naming the file where it is absent, truncated, no state dict, or asks to run code.
    """
    return _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        file: Any = safe_open(path, framework="pt", device="cpu")
        entries = {name: _stored(file, name, path) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        # Tied weights are stored once; the metadata says which name stands for which (`safetensors.torch.save_model`).
        aliases = {alias: entries[kept] for alias, kept in (file.metadata() or {}).items() if kept in entries}
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from error
    return aliases | entries


def _stored(file: Any, name: str, path: Path) -> StoredTensor:
    view = file.get_slice(name)
    dtype = DTYPES.get(view.get_dtype()) or file.get_tensor(name).dtype

    def read() -> Tensor:
        try:
            tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise unreadable(path, f"tensor {name!r}: {error}") from error
        return tensor

    return StoredTensor(tuple(view.get_shape()), dtype, path, read)


def _pickled(path: Path) -> dict[str, StoredTensor]:
    state = _load_pickle(path)
    wrong = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointError(
            f"{path}: entries that are no tensors: {shorten(wrong)}. This is a training checkpoint, not model weights: "
            "save `model.state_dict()`, or `model.save_pretrained(folder)`."
        )
    return {
        str(name): StoredTensor(tuple(value.shape), value.dtype, path, value.detach) for name, value in state.items()
    }


def _load_pickle(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols; what matters is refused below
            # The older, unzipped format cannot be mapped and is read whole.
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if is_lfs_pointer(path):
            raise unreadable(path, error) from error
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it asks to run code (`{asked[1]}`) while it is read, and that" if asked else "what it asks for"
        raise CheckpointError(
            f"{path}: is damaged, or no plain file of tensors: {what} is refused. Get the checkpoint as safetensors."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise unreadable(path, error) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, not a state dict. Save `model.state_dict()`.")
    return state
