"""Where groups act on tensors of real numbers, and fixed numbers for the positions on axes that nothing moves."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.places import Place
from permgraph.symmetry.elements.cells import Cell
from permgraph.symmetry.specification.spec import PermutationSpec

State = Mapping[str, Tensor]


def places_of(spec: PermutationSpec, state: State, groups: Sequence[str]) -> dict[str, list[Place]]:
    """Group -> where it acts on parameters and buffers; tied ones count once."""
    found: dict[str, list[Place]] = {name: [] for name in groups}
    for name, cell in cells(spec, state):
        for move in cell.moves:
            if move.group in found:
                found[move.group].append(Place(name, cell, move))
    return found


def cells(spec: PermutationSpec, state: State) -> Iterator[tuple[str, Cell]]:
    """The cells of all tensors of numbers on which some group acts."""
    for name, layout in spec.layouts.items():
        if name not in spec.ties.aliases and (state[name].is_floating_point() or state[name].is_complex()):
            for cell in layout.cells:
                if cell.moves and cell.size:
                    yield name, cell


def units(place: Place, tensor: Tensor, weights: float | Tensor = 1.0) -> Tensor:
    """[rows, units, rest] of a tensor, in float64; complex numbers become pairs. `weights` multiply the block."""
    return torch.cat([place.rows(place.cell.block(part) * weights) for part in real(tensor)], -1)


def real(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensor in float64, or its real and its imaginary part."""
    if not tensor.is_complex():
        return (tensor.double(),)
    return torch.view_as_real(tensor.to(torch.complex128).resolve_conj()).unbind(-1)


def fixed(name: str, cell: Cell) -> Tensor:
    """A positive number for each position on the leaves that nothing moves; different for different names."""
    moved = {k for move in cell.moves for k in move.leaves}
    found = torch.full([1] * len(cell.leaves), 1 + 0.5 * number(name), dtype=torch.float64, device="cpu")
    for k, leaf in enumerate(cell.leaves):
        if k not in moved:
            shape = [-1 if axis == k else 1 for axis in range(len(cell.leaves))]
            found = found * torch.from_numpy(numbers(f"{name}/{k}", leaf.size)).reshape(shape)
    return found


def number(text: str) -> float:
    """A number between 0 and 1 that depends only on the text."""
    return zlib.crc32(text.encode()) / 2**32


def numbers(text: str, count: int) -> Numbers:
    """Different numbers between 0.5 and 1.5 that depend only on the text."""
    golden = (5**0.5 - 1) / 2
    return np.asarray(0.5 + (number(text) + golden * np.arange(1, count + 1)) % 1, dtype=np.float64)
