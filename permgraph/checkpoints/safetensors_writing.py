"""Writes safetensors tensor by tensor: the header first, then each tensor as it is made, so that one is in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from permgraph.checkpoints.safetensors_files import DTYPES, FORMAT, LENGTH, METADATA
from permgraph.errors import CheckpointError

CODES = {dtype: code for code, dtype in DTYPES.items()}
ALIGNMENT = 8


def write_safetensors(
    path: Path,
    tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    make: Callable[[str], Iterable[Tensor]],
    metadata: Mapping[str, str],
) -> None:
    """Write a file with `tensors`, name -> (shape, dtype); `make` computes each in turn, in consecutive parts.

    The widest dtypes come first and names are in order, as `safetensors` writes them, so that all are aligned. Raises
    CheckpointError for a dtype that the format does not have.
    """
    for name, (_, dtype) in tensors.items():
        if dtype not in CODES:
            short = str(dtype).removeprefix("torch.")
            raise CheckpointError(f"{name}: is {short}, which safetensors cannot hold. Convert it first.")
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, str(tensors[name][1]), name))
    header: dict[str, object] = {METADATA: {FORMAT: "pt", **metadata}}
    end = 0
    for name in order:
        shape, dtype = tensors[name]
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(LENGTH, "little"))
        file.write(text)
        for name in order:
            shape, dtype = tensors[name]
            left = prod(shape)
            for tensor in make(name):
                assert tensor.dtype == dtype
                left -= tensor.numel()
                if tensor.numel():
                    file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            assert not left
