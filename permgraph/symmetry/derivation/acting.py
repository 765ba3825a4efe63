"""Where the groups act on each tensor: its cells become a layout, with the moves of the groups on their leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from permgraph.algebra.cells import Occurrence, TensorLayout
from permgraph.symmetry.derivation.groups import Grouping
from permgraph.symmetry.elements.cells import Cell, Leaf, Move
from permgraph.symmetry.elements.layout import Layout


@dataclass
class Layouts:
    """The layouts of the tensors of a trace under its groups."""

    grouping: Grouping

    def of(self, tensor: str) -> Layout:
        """Where the groups act on a tensor."""
        places = self.grouping.resolution.layouts[tensor]
        if 0 in places.value.shape:
            return Layout(places.value.shape, ())
        return Layout(places.value.shape, tuple(self._cell(places, cell) for cell in places.cells()))

    def _cell(self, places: TensorLayout, cell: tuple[int, ...]) -> Cell:
        boxes = [places.boxes[dim][index] for dim, index in enumerate(cell)]
        here = [occurrence for occurrence, _ in places.occurrences(cell)]
        leaves = tuple(Leaf(o.dim, places.size(o), places.stride(o)) for o in here)
        moves = tuple(move for occurrence in here for move in self._moves(occurrence, here))
        return Cell(tuple(box.offset for box in boxes), leaves, moves)

    def _moves(self, occurrence: Occurrence, here: Sequence[Occurrence]) -> Iterator[Move]:
        """The moves that begin at an occurrence of the cell `here`."""
        grouping, kind = self.grouping, self.grouping.bundles.class_of(occurrence)
        bundle = grouping.bundles.of.get(kind)
        if bundle is None or kind != bundle.classes[0]:
            return
        change = grouping.changes.all[bundle]
        if not (bundle.free or change.further):
            return
        own = self._leaves(occurrence, bundle.classes, here)
        keys = [self._leaves(occurrence, lower.classes, here) for lower in bundle.depends_on]
        power = self._exponent(occurrence, partial(grouping.changes.power, change))
        if change.kind.mixes and not power:
            return
        if bundle.free and own and all(keys) and power is not None:
            yield Move(grouping.names[bundle], own, tuple(keys), power)
        for scales in grouping.further[bundle]:
            exponent = self._exponent(occurrence, partial(grouping.changes.exponent, scales.freedom))
            if not exponent:  # what selects these scales need not occur where they do nothing
                continue
            selected = [self._leaves(occurrence, lower.classes, here) for lower in scales.selects]
            if own and all(selected):
                yield Move(scales.name, (), (*selected, own), exponent)

    def _exponent(self, occurrence: Occurrence, power: Callable[[Occurrence], int]) -> int | None:
        """The exponent at an occurrence; in a cell that is not read, that of all cells it moves along with, or None."""
        powers = {power(like) for like in self.grouping.resolution.along.get(occurrence, (occurrence,))}
        return powers.pop() if len(powers) == 1 else None

    def _leaves(
        self, occurrence: Occurrence, classes: Iterable[Occurrence], here: Sequence[Occurrence]
    ) -> tuple[int, ...]:
        """Which leaves of the cell carry these classes; () where a cell that is not read lacks one of them."""
        class_of, bundles = self.grouping.bundles.class_of, self.grouping.bundles
        if (occurrence.tensor, occurrence.cell) in self.grouping.resolution.unread:
            in_cell = {class_of(o): o for o in reversed(here)}
            if not in_cell.keys() >= set(classes):
                return ()
        elif occurrence in bundles.selectors:
            in_cell = bundles.selectors[occurrence]
        else:
            in_cell = self.grouping.all_selectors[occurrence]
        own = class_of(occurrence)
        return tuple(here.index(occurrence if kind == own else in_cell[kind]) for kind in classes)
