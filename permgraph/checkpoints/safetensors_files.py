"""Reads safetensors: the header is checked as a whole, and a tensor is read when it is asked for, without a mapping."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from permgraph.checkpoints.json_files import parse_json, unreadable
from permgraph.checkpoints.open_file import OpenFile
from permgraph.checkpoints.stored import StoredTensor, WeightFile
from permgraph.errors import CheckpointError
from permgraph.wording import few

LENGTH, MOST_HEADER = 8, 100_000_000
METADATA, FORMAT = "__metadata__", "format"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
    "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


def read_safetensors(file: OpenFile) -> WeightFile:
    """Names, shapes and dtypes of a safetensors file.

    Raises CheckpointError for a header that is cut, no JSON of the format, or not the description of all bytes of the
    file, each once; and for a tensor of a type that PyTorch does not have, by name.
    """
    header, start = _header(file)
    metadata = header.pop(METADATA, None) or {}
    places = sorted((_place(file, name, entry) for name, entry in header.items()), key=lambda place: place[1])
    end = 0
    for name, begin, stop in places:
        if begin != end:
            raise unreadable(file.path, f"the bytes of {name!r} begin at {begin}, and those before them end at {end}")
        end = stop
    if start + end != file.size:
        raise unreadable(file.path, f"its tensors take {start + end} bytes")
    tensors = {name: _stored(file, name, header[name], start) for name in header}
    # Tied weights are stored once; the metadata says which name is an alias of which (`safetensors.torch.save_model`).
    said = metadata if isinstance(metadata, dict) else {}
    aliases = {k: v for k, v in said.items() if k != FORMAT and isinstance(v, str) and v in tensors}
    return WeightFile(file, {alias: tensors[kept] for alias, kept in aliases.items()} | tensors)


def _header(file: OpenFile) -> tuple[dict[str, Any], int]:
    if file.size < LENGTH:
        raise unreadable(file.path, "it has no header")
    length = int.from_bytes(file.read(0, LENGTH), "little")
    if length > min(MOST_HEADER, file.size - LENGTH):
        raise unreadable(file.path, f"its header would take {length} bytes")
    try:
        header = parse_json(file.read(LENGTH, length).decode("utf-8"), once=True)
    except ValueError as error:
        raise unreadable(file.path, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise unreadable(file.path, f"its header is a JSON {type(header).__name__}")
    return header, LENGTH + length


def _place(file: OpenFile, name: str, entry: Any) -> tuple[str, int, int]:
    """The name of a tensor, and where its bytes begin and end behind the header."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            sizes = [size for size in shape if type(size) is int and 0 <= size < 1 << 63]
            if len(sizes) == len(shape) and 0 <= begin <= end:
                known = DTYPES.get(dtype)
                if known is None:
                    raise CheckpointError(
                        f"{file.path}: tensor {name!r} is stored as {dtype}, which this PyTorch cannot read. Convert "
                        "the checkpoint to float16, bfloat16 or float32."
                    )
                if math.prod(sizes) * known.itemsize == end - begin:
                    return name, begin, end
    raise unreadable(file.path, f"its header says of tensor {name!r}: {few([json.dumps(entry)])}")


def _stored(file: OpenFile, name: str, entry: dict[str, Any], start: int) -> StoredTensor:
    shape, dtype, (begin, end) = tuple(entry["shape"]), DTYPES[entry["dtype"]], entry["data_offsets"]

    def part(offset: int, count: int, sizes: tuple[int, ...]) -> Tensor:
        raw = torch.empty(count, dtype=torch.uint8, device="cpu")
        file.read_into(raw.numpy().data, start + begin + offset)
        return raw.view(dtype).reshape(sizes)

    def rows(first: int, last: int) -> Tensor:
        row = math.prod(shape[1:]) * dtype.itemsize
        return part(first * row, (last - first) * row, (last - first, *shape[1:]))

    return StoredTensor(shape, dtype, file.path, lambda: part(0, end - begin, shape), rows if shape else None)
