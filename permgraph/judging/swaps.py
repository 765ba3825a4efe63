"""Swaps of two positions on some axes that an operation follows: are they in the claimed group?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, pairwise

import numpy as np
import torch
from torch import Tensor

from permgraph.judging.one_call import Axis, OneCall, State, equal, subsets
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.specification.spec import PermutationSpec

MOST_SETS = 64
MOST_PAIRED = 6


def missed_swaps(call: OneCall, spec: PermutationSpec, state: State) -> Iterator[tuple[Axis, ...]]:
    """Sets of axes, inputs then outputs, on which two indices can be swapped although the claim forbids it.

    For each size of axes at most `MOST_SETS` sets are tried, small ones first.
    """
    others = [state, {name: value.detach() for name, value in OneCall(call.example, seed=1).named_parameters()}]
    results = [call.results(values) for values in others]
    axes = [(name, dim) for name, value in state.items() for dim in range(value.dim())]
    outs = [(f"result {k}", dim) for k, value in enumerate(results[0]) for dim in range(value.dim())]
    shapes = {name: value.shape for name, value in state.items()}
    shapes |= {f"result {k}": value.shape for k, value in enumerate(results[0])}
    for size in sorted({shapes[name][dim] for name, dim in axes} - {0, 1}):
        here, there = ([axis for axis in given if shapes[axis[0]][axis[1]] == size] for given in (axes, outs))
        sets = ((chosen, out) for chosen in subsets(here, 1) for out in subsets(there, 0))
        for chosen, out in islice(sets, MOST_SETS):
            swaps = [_Swap(frozenset(chosen + out), *pair) for pair in _pairs(size)]
            if any(swap.holds(call, others, results) and not swap.is_in(spec, state, results[0]) for swap in swaps):
                yield chosen + out


def _pairs(size: int) -> Iterator[tuple[int, int]]:
    """All pairs of positions; for many positions only neighbours, which generate all swaps."""
    return combinations(range(size), 2) if size <= MOST_PAIRED else pairwise(range(size))


@dataclass(frozen=True)
class _Swap:
    """Swaps positions `i` and `j` on some axes of operands and results."""

    axes: frozenset[Axis]
    i: int
    j: int

    def __call__(self, name: str, value: Tensor) -> Tensor:
        for dim in sorted(dim for where, dim in self.axes if where == name):
            order = list(range(value.shape[dim]))
            order[self.i], order[self.j] = self.j, self.i
            value = value.index_select(dim, torch.tensor(order))
        return value

    def holds(self, call: OneCall, states: Sequence[State], results: Sequence[list[Tensor]]) -> bool:
        """Whether the operation follows the swap for all of these operands."""
        return all(
            equal(
                [self(f"result {k}", value) for k, value in enumerate(before)],
                call.results({name: self(name, value) for name, value in state.items()}),
            )
            for state, before in zip(states, results, strict=True)
        )

    def is_in(self, spec: PermutationSpec, state: State, before: Sequence[Tensor]) -> bool:
        """Whether the swap is in the group: the only candidate element is read off the moved positions."""
        labels = {name: torch.arange(value.numel()).view(value.shape) for name, value in state.items()}
        wanted = {name: self(name, value) for name, value in labels.items()}
        tables = dict(spec.identity().tables)
        for name, layout in spec.layouts.items():
            for cell in layout.cells:
                for move in cell.moves:
                    tables[move.group] = _table(tables[move.group], wanted[name].numpy(), cell, move)
        if any(np.any(np.sort(table, -1) != np.arange(table.shape[-1])) for table in tables.values()):
            return False
        element = Permutations(tables)
        moved = spec.apply(element, labels)
        after = [self(f"result {k}", value) for k, value in enumerate(before)]
        return all(torch.equal(moved[name], wanted[name]) for name in labels) and equal(
            spec.apply_outputs(element, list(before)), after
        )


def _table(table: Index, wanted: Index, cell: Cell, move: Move) -> Index:
    """The table of a group of which one cell of a tensor shows where each element comes from."""
    here = cell.coordinates()
    grid = np.broadcast_arrays(*(cell.positions(dim, here) for dim in range(wanted.ndim)), *here)
    places, coordinates = grid[: wanted.ndim], grid[wanted.ndim :]
    sources = np.unravel_index(wanted[tuple(places)], wanted.shape)
    came = [(sources[leaf.dim] - cell.offsets[leaf.dim]) // leaf.stride % leaf.size for leaf in cell.leaves]

    def unit(values: Sequence[Index], leaves: Sequence[int]) -> Index:
        shape = [cell.leaves[k].size for k in leaves]
        return np.ravel_multi_index([values[k] for k in leaves], shape)

    found = table.copy()
    rows = tuple(unit(coordinates, key) for key in move.keys)
    found[(*rows, unit(coordinates, move.leaves))] = unit(came, move.leaves)
    return found
