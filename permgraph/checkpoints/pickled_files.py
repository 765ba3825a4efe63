"""Reads PyTorch's pickled files: a state dict, or a training checkpoint with one in it. Nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from permgraph.checkpoints.json_files import is_lfs_pointer, unreadable
from permgraph.checkpoints.open_file import OpenFile
from permgraph.checkpoints.stored import StoredTensor, WeightFile
from permgraph.errors import CheckpointError
from permgraph.wording import few, first_line

CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
"""Under which names a training checkpoint has the weights, the likeliest first."""
ZIP = b"PK\x03\x04"


class Inert:
    """Replaces every class or function that a file names and that is not part of a tensor: it does nothing."""

    def __new__(cls, *given: Any, **named: Any) -> Inert:
        """An empty object, whatever is given."""
        return super().__new__(cls)

    def __init__(self, *given: Any, **named: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


def read_pickled(file: OpenFile) -> WeightFile:
    """The state dict in a pickled file, which is read with `weights_only=True`; what is not a tensor is left out.

    From a training checkpoint the weights are taken; its other parts are replaced by objects that do nothing (`Inert`).
    Raises CheckpointError for a file that is damaged, asks to run code, or holds no state dict.
    """
    tensors, left_out = _state_dict(file, _load(file))
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_meta:
            raise CheckpointError(
                f"{file.path}: tensor {name!r} is sparse, nested, quantized or without values ({tensor.layout}). Save "
                "it as a plain tensor."
            )
    stored = {n: StoredTensor(tuple(t.shape), t.dtype, file.path, t.detach) for n, t in tensors.items()}
    return WeightFile(file, stored, left_out)


def _state_dict(file: OpenFile, value: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The mapping from names to tensors in what was read, and what else was in it."""
    left_out: dict[str, str] = {}
    while isinstance(value, Mapping) and (inner := _container(file, value)) is not None:
        left_out |= {
            str(name): f"not part of the weights, which are under {inner!r}" for name in value if name != inner
        }
        value = value[inner]
    if not isinstance(value, Mapping):
        kind = "a whole pickled model" if isinstance(value, Inert) else f"a {type(value).__name__}"
        raise CheckpointError(f"{file.path}: holds {kind}, not a state dict. Save `model.state_dict()`.")
    if value and not _count(value):
        names = few([str(name) for name in value])
        raise CheckpointError(
            f"{file.path}: holds no tensors: {names}; code in it is never run. Save `model.state_dict()`, or "
            "`model.save_pretrained(folder)`."
        )
    tensors = {str(name): item for name, item in value.items() if isinstance(item, Tensor)}
    others = {str(n): f"no tensor, but a {type(i).__name__}" for n, i in value.items() if not isinstance(i, Tensor)}
    return tensors, left_out | others


def _container(file: OpenFile, value: Mapping[Any, Any]) -> Any:
    """The name in `value` under which there is a state dict, None where `value` is one itself."""
    counts = {name: _count(item) for name, item in value.items() if isinstance(item, Mapping)}
    inner = [name for name in CONTAINERS if counts.get(name, 0) > _count(value)]
    inner += [name for name in CONTAINERS if not _count(value) and _nested(value.get(name))]
    others = [name for name, count in counts.items() if count > _count(value)]
    if not inner and len(others) > 1:
        raise CheckpointError(
            f"{file.path}: holds several state dicts: {few([str(name) for name in others])}. Save the one that is "
            "meant with `torch.save(checkpoint[name], file)`."
        )
    return next(iter((*inner, *others)), None)


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping) and any(_count(value.get(name)) for name in CONTAINERS)


def _count(value: Any) -> int:
    return sum(isinstance(item, Tensor) for item in value.values()) if isinstance(value, Mapping) else 0


def _load(file: OpenFile) -> Any:
    with os.fdopen(os.dup(file.fileno()), "rb") as stream:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on pickle protocols; what matters is refused below
                with torch.serialization.safe_globals([(Inert, name) for name in _unknown(file, stream)]):
                    stream.seek(0)
                    return torch.load(stream, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if is_lfs_pointer(file.path):
                raise unreadable(file.path, "it holds no tensors") from None
            asked = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"it asks to run code (`{asked[1]}`) while it is read, and that" if asked else "what it asks for"
            raise CheckpointError(  # without the cause, whose advice is to run that code
                f"{file.path}: is damaged, or not a plain file of tensors: {what} is refused. Get the checkpoint as "
                "safetensors."
            ) from None
        except ValueError as error:
            if "torchscript" in str(error):
                raise CheckpointError(
                    f"{file.path}: is a TorchScript program. Save the `state_dict()` of the model it was made from."
                ) from error
            raise unreadable(file.path, first_line(error)) from error
        except Exception as error:  # a damaged pickle raises anything
            raise unreadable(file.path, first_line(error)) from error


def _unknown(file: OpenFile, stream: Any) -> list[str]:
    """Classes and functions that the file names and no tensor needs; none for the older format, which is refused."""
    if file.read(0, min(len(ZIP), file.size)) != ZIP:
        return []
    stream.seek(0)
    return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(stream))
