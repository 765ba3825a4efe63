"""A checkpoint whose tensors are parts of a model's, as one with the model's tensors, put together on access."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from permgraph.checkpoints.reading import Checkpoint
from permgraph.checkpoints.stored import StoredTensor
from permgraph.models.saved_form import Part

Placed = list[tuple[StoredTensor, Part]]


def assembled(
    checkpoint: Checkpoint, parts: Mapping[str, Part], names: Mapping[str, str], like: Mapping[str, Tensor]
) -> Checkpoint:
    """The same files with a tensor for each of `like` of which all parts are there, and without their parts.

    Args:
        checkpoint: the files.
        parts: name of a part -> where it lies.
        names: name of a part -> its name in the files.
        like: tensors of the shapes that are to be put together.

    """
    here: dict[str, Placed] = {}
    for name, part in parts.items():
        if name in names and checkpoint.info[names[name]].shape == part.shape:
            here.setdefault(part.name, []).append((checkpoint.info[names[name]], part))
    whole = {name: placed for name, placed in here.items() if _covers(placed, like[name])}
    taken = {stored for name, stored in names.items() if name in parts and parts[name].name in whole}
    info = {name: stored for name, stored in checkpoint.info.items() if name not in taken}
    return checkpoint.with_info(info | {name: _whole(placed, like[name]) for name, placed in whole.items()})


def _covers(placed: Placed, like: Tensor) -> bool:
    """Parts of one tensor do not overlap, so that numbers can be counted."""
    return sum(torch.Size(part.shape).numel() for _, part in placed) == like.numel()


def _whole(placed: Placed, like: Tensor) -> StoredTensor:
    first, shape = placed[0][0], tuple(like.shape)
    if len(placed) == 1 and first.shape == shape and placed[0][1].strides == like.contiguous().stride():
        return first
    dtype = reduce(torch.promote_types, (stored.dtype for stored, _ in placed))
    row = like.numel() // max(len(like), 1)

    def read() -> Tensor:
        return rows(0, len(like))

    def rows(start: int, stop: int) -> Tensor:
        made = torch.empty((stop - start, *shape[1:]), dtype=dtype, device="cpu")
        for stored, part in placed:
            if part.end <= start * row or part.offset >= stop * row:
                continue
            if part.offset < start * row or part.end > stop * row:  # a part with rows that are not asked for
                return read()[start:stop]
            part.of(made, start * row).copy_(stored.read())
        return made

    return StoredTensor(shape, dtype, first.file, read, rows)
