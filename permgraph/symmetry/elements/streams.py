"""Layouts of single axes: where groups act on a vector of a residual stream, or on a low-rank factor of a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from permgraph.algebra.relations import Value
from permgraph.symmetry.elements.cells import Cell, Leaf, Move
from permgraph.symmetry.elements.layout import Layout


@dataclass(frozen=True)
class Stream:
    """A residual stream: the modules whose sums x + f(x) it is, and where groups act on one of its vectors."""

    places: tuple[str, ...]
    layout: Layout


def streams(sums: Iterable[Value], layout_of: Callable[[str], Layout]) -> Iterator[Stream]:
    """The streams of these sums on which some group acts, first to last."""
    places: dict[Layout, list[str]] = {}
    for value in sums:
        layout = layout_of(value.name)
        moved = {cell.leaves[k].dim for cell in layout.cells for m in cell.moves for k in m.leaves}
        for dim in sorted(moved):
            vector = along(layout, dim, (layout.shape[dim],), 0)
            if vector is not None:
                places.setdefault(vector, []).append(value.source.module)
    for vector, modules in places.items():
        yield Stream(tuple(dict.fromkeys(modules)), vector)


def along(layout: Layout, dim: int, shape: Sequence[int], axis: int) -> Layout | None:
    """The layout of a tensor of another shape of which only `axis` moves, like dimension `dim` of `layout`.

    None if the move on the dimension depends on the position on another dimension.
    """
    found: dict[tuple[int, tuple[Leaf, ...]], tuple[Move, ...]] = {}
    for cell in layout.cells:
        moves = _moves(cell, dim)
        box = cell.offsets[dim], tuple(leaf for leaf in cell.leaves if leaf.dim == dim)
        if moves is None or found.setdefault(box, moves) != moves:
            return None
    return Layout(tuple(shape), tuple(_placed(box, moves, shape, axis) for box, moves in found.items()))


def _moves(cell: Cell, dim: int) -> tuple[Move, ...] | None:
    """The moves on one dimension of a cell, with only its leaves numbered."""
    number = {k: n for n, k in enumerate(k for k, leaf in enumerate(cell.leaves) if leaf.dim == dim)}
    found = []
    for move in cell.moves:
        everywhere = [k for leaves in (move.leaves, *move.keys) for k in leaves]
        moved = move.leaves or move.keys[-1]
        if not number.keys() & set(moved):
            continue
        if not number.keys() >= set(everywhere):
            return None
        keys = tuple(tuple(number[k] for k in key) for key in move.keys)
        found.append(replace(move, leaves=tuple(number[k] for k in move.leaves), keys=keys))
    return tuple(found)


def _placed(box: tuple[int, tuple[Leaf, ...]], moves: Sequence[Move], shape: Sequence[int], axis: int) -> Cell:
    """A cell that is whole on all axes but one; the leaves of that axis come first."""
    offset, leaves = box
    mine = tuple(replace(leaf, dim=axis) for leaf in leaves)
    others = tuple(Leaf(dim, size, 1) for dim, size in enumerate(shape) if dim != axis)
    return Cell(tuple(offset if dim == axis else 0 for dim in range(len(shape))), (*mine, *others), tuple(moves))
