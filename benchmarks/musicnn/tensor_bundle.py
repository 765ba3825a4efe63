"""Reads a TensorFlow 1 checkpoint with numpy alone.

An index file is a LevelDB table from a tensor's name to a protocol buffer (type, shape, offset, size) that points into
one data file. Formats: TensorFlow's `tensor_bundle.proto` and LevelDB's `table_format.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

FOOTER, TRAILER = 48, 5  # bytes; a trailer is the kind of compression and a checksum
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64}


def read(prefix: Path | str) -> dict[str, np.ndarray]:
    """Every tensor of the checkpoint `prefix`.index by name. ValueError for one that is compressed or sharded."""
    index = Path(f"{prefix}.index").read_bytes()
    data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    footer = index[-FOOTER:]
    at = 0
    for _ in range(2):
        _, at = _varint(footer, at)
    found = {}
    for _, handle in _entries(index, *_handle(footer, at)):
        for name, value in _entries(index, *_handle(handle, 0)):
            if name:
                found[name.decode()] = _tensor(dict(_fields(value)), data)
    return found


def _tensor(entry: dict[int, int | bytes], data: bytes) -> np.ndarray:
    shape = [int(dict(_fields(dim)).get(1, 0)) for kind, dim in _fields(bytes(entry.get(2, b""))) if kind == 2]
    dtype, start, size = DTYPES[int(entry[1])], int(entry.get(4, 0)), int(entry.get(5, 0))
    if entry.get(3) or prod(shape) * np.dtype(dtype).itemsize != size:
        raise ValueError(f"a tensor of shape {shape} has {size} bytes: the checkpoint is sharded or damaged")
    return np.frombuffer(data, dtype, prod(shape), start).reshape(shape).copy()


def _handle(text: bytes, at: int) -> tuple[int, int]:
    """Offset and size of a block."""
    offset, at = _varint(text, at)
    return offset, _varint(text, at)[0]


def _entries(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key begins with so many bytes of the one before."""
    if table[offset + size : offset + size + TRAILER][0]:
        raise ValueError("the index is compressed: only plain blocks are read")
    block = table[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    at, key = 0, b""
    while at < len(block) - 4 * (restarts + 1):
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _fields(text: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer."""
    at = 0
    while at < len(text):
        tag, at = _varint(text, at)
        if tag & 7 == 0:
            value, at = _varint(text, at)
            yield tag >> 3, value
            continue
        length = {1: 8, 5: 4}.get(tag & 7)
        if length is None:
            length, at = _varint(text, at)
        yield tag >> 3, text[at : at + length]
        at += length


def _varint(text: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = text[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
