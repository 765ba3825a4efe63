"""The same inputs at other lengths, for a proof in addition to that at the given inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.errors import CaptureError
from permgraph.tracing.capture import capture
from permgraph.tracing.loaded import Inputs
from permgraph.tracing.program import Program, source_of

MOST_SIZES = 4  # that are tried one by one


def at_other_lengths(example: Inputs) -> Iterator[Inputs]:
    """Longer and shorter inputs: of all sizes at once, then of one size at a time, the largest first.

    A size is changed in every dimension after the batch that has it, since a mask is as long as the input that it
    masks. Longer inputs repeat their beginning, shorter ones lose their end, so that all values are valid. Which
    dimensions are lengths is not known: the model refuses inputs that it cannot take.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(example) if isinstance(leaf, Tensor)]
    first = 0 if all(tensor.dim() == 1 for tensor in tensors) else 1
    sizes = sorted({size for tensor in tensors for size in tensor.shape[first:] if size > 1}, reverse=True)
    choices = [sizes, *([size] for size in sizes[:MOST_SIZES] if len(sizes) > 1)]
    for chosen in choices if sizes else ():
        for other in ({size: size + max(1, size // 4) for size in chosen}, {size: size // 2 for size in chosen}):
            args, kwargs = pytree.tree_map_only(Tensor, partial(_resized, first=first, sizes=other), example)
            yield args, kwargs


def _resized(tensor: Tensor, first: int, sizes: Mapping[int, int]) -> Tensor:
    for dim in range(first, tensor.dim()):
        size = tensor.shape[dim]
        if size in sizes:
            tensor = tensor.index_select(dim, torch.arange(sizes[size], device=tensor.device) % size)
    return tensor


def programs_at_other_lengths(model: nn.Module, example: Inputs) -> Iterator[tuple[Program, Inputs]]:
    """What `model` computes at the other lengths that it takes, with the inputs."""
    for inputs in at_other_lengths(example):
        try:
            program = capture(model, *inputs)
        except CaptureError:
            continue
        yield program, inputs


def other_path(program: Program, other: Program) -> str:
    """The first operation that one of two programs has and the other lacks; "" where they run the same operations."""
    for a, b in zip_longest(program.graph.graph.nodes, other.graph.graph.nodes):
        if a is None or b is None or (a.op, a.target) != (b.op, b.target):
            return str(source_of(b if b is not None and b.op == "call_function" else a))
    return ""
