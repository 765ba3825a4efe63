"""Which cells of the stored tensors the traced pass reads, and how the cells that it does not read may move.

A pass reads `pos[:, :T]` of a table of positions; another pass, on a longer input, reads more of it. The first pass
does not constrain the rest, so the rest must not move by itself: it moves only along dimensions on which the parts that
are read move, and in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from itertools import groupby, product
from typing import Any

from permgraph.algebra.cells import Occurrence, TensorLayout
from permgraph.algebra.relations import Relation, Source

UNREAD = "the traced pass does not read this part"
ALONG = Source("parts of one tensor, of which the traced pass reads some")
Place = tuple[str, tuple[int, ...]]
"""A cell: the tensor's name and the cell's index."""
Runs = tuple[tuple[int, int], ...]
"""(start, stop) of consecutive positions of a dimension."""
Block = tuple[Runs, ...]
"""The runs of positions on every dimension."""


class Reading:
    """The cells that contribute to the tensors `ends`, found backwards through the operations."""

    def __init__(self, layouts: Mapping[str, TensorLayout], ends: Iterable[str]) -> None:
        self.layouts = layouts
        self.places: set[Place] = {(name, cell) for name in ends for cell in layouts[name].cells()}
        self.tensors = {name for name, _ in self.places}

    def follow(self, steps: Sequence[tuple[Relation, Sequence[Place]]]) -> None:
        """Follow operations backwards from the cells that are read; a step is a relation and the cells of a joint cell.

        A relation that names no result of its operation counts as read if any of the operation's results is read.
        """
        pending = [self._ends_of(relation, cells) for relation, cells in reversed(steps) if relation.made is not None]
        while True:
            waiting = [step for step in pending if not self._take(*step)]
            if len(waiting) == len(pending):
                return
            pending = waiting

    def _ends_of(self, relation: Relation, cells: Sequence[Place]) -> tuple[Sequence[Place], Collection[Any], Any]:
        made = relation.made or frozenset()
        if any(operand.value.name in made for operand in relation.operands):
            return cells, [place for place in cells if place[0] in made], self.places
        return cells, made, self.tensors

    def _take(self, cells: Sequence[Place], results: Collection[Any], read: Set[Any]) -> bool:
        if read.isdisjoint(results):
            return False
        self.places.update(cells)
        self.tensors.update(name for name, _ in cells)
        return True

    def unread(self, stored: Iterable[str]) -> frozenset[Place]:
        """The cells of these tensors that nothing reads."""
        places = ((name, cell) for name in stored for cell in self.layouts[name].cells())
        return frozenset(place for place in places if place not in self.places)


def ties_of_unread(
    layout: TensorLayout, unread: Collection[Place], find: Callable[[Occurrence], Occurrence], moving: Set[Occurrence]
) -> Iterator[tuple[Occurrence, Sequence[Occurrence], tuple[Occurrence, ...]]]:
    """(first, others, read): occurrences in unread cells of a tensor, and the occurrences that they move along with.

    Along a dimension, unread cells move as the read cells at the same positions of that dimension do, if these all move
    alike; else `read` is empty. `moving` are the classes in read cells of stored tensors; occurrences that an operation
    has already tied to one of them are left out.
    """
    read: dict[tuple[int, int, int], list[Occurrence]] = {}
    rest: dict[tuple[int, int, int], list[Occurrence]] = {}
    for cell in layout.cells():
        for occurrence, _ in layout.occurrences(cell):
            key = occurrence.dim, cell[occurrence.dim], occurrence.position
            if (layout.value.name, cell) not in unread:
                read.setdefault(key, []).append(occurrence)
            elif find(occurrence) not in moving:
                rest.setdefault(key, []).append(occurrence)
    for key, (first, *others) in rest.items():
        follow = read.get(key, [])
        yield first, others, tuple(follow) if len({find(occurrence) for occurrence in follow}) == 1 else ()


def blocks(layout: TensorLayout, cells: Iterable[tuple[int, ...]]) -> list[tuple[Runs, ...]]:
    """The positions of these cells: for each block, the runs of positions on every dimension."""
    found = [tuple(_positions(layout, cell, dim) for dim in range(len(cell))) for cell in cells]
    for dim in range(len(layout.boxes)):
        found = _joined(found, dim)
    return [tuple(runs_of(sorted(positions)) for positions in block) for block in found]


def _positions(layout: TensorLayout, cell: tuple[int, ...], dim: int) -> frozenset[int]:
    leaves = [o for o, _ in layout.occurrences(cell) if o.dim == dim]
    steps = [range(0, layout.size(o) * layout.stride(o), layout.stride(o)) for o in leaves]
    return frozenset(layout.boxes[dim][cell[dim]].offset + sum(choice) for choice in product(*steps))


def _joined(found: Sequence[tuple[frozenset[int], ...]], dim: int) -> list[tuple[frozenset[int], ...]]:
    """Join blocks that differ only on one dimension."""
    together: dict[tuple[frozenset[int], ...], frozenset[int]] = {}
    for block in found:
        others = (*block[:dim], *block[dim + 1 :])
        together[others] = together.get(others, frozenset()) | block[dim]
    return [(*others[:dim], positions, *others[dim:]) for others, positions in together.items()]


def runs_of(positions: Sequence[int]) -> Runs:
    """Sorted positions as runs."""
    numbered = groupby(enumerate(positions), key=lambda item: item[1] - item[0])
    runs = [[place for _, place in run] for _, run in numbered]
    return tuple((run[0], run[-1] + 1) for run in runs)


def written(shape: Sequence[int], block: Block) -> str:
    """A block of a tensor of this shape as an index, such as `:, 8:32`; runs are joined by +."""
    written = [
        ":" if list(runs) == [(0, size)] else "+".join(f"{start}:{stop}" for start, stop in runs)
        for size, runs in zip(shape, block, strict=True)
    ]
    while written[1:] and written[-1] == ":":
        written.pop()
    return ", ".join(written)
