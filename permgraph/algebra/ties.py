"""Turns relations into factors: which leaves of which tensors move together.

A tensor is partitioned into cells: one box on each of its dimensions. In a cell every dimension is a product of
leaves, and a leaf of a cell is an `Occurrence`. A relation, read for one choice of a box for each of its variables,
ties the occurrences of every variable. The classes of the resulting union-find are the factors. Because occurrences
live in cells, the query, key and value parts of one fused weight are free of each other unless some operation ties
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from permgraph.algebra.boxes import Partitions
from permgraph.algebra.cells import Occurrence, TensorLayout
from permgraph.algebra.factors import Factors
from permgraph.algebra.instances import Instance, Reader
from permgraph.algebra.joint_cells import JointCells
from permgraph.algebra.reading import ALONG, UNREAD, Place, Reading, ties_of_unread
from permgraph.algebra.relations import Relation, Value

STORED = ("parameter", "buffer")


@dataclass
class Resolution:
    """All factors of a trace, the cells of its tensors, and the relations read cell by cell.

    `unread` are the cells of parameters and buffers that contribute to no output; `along` maps occurrences in them to
    those of the same class that they follow.
    """

    factors: Factors
    layouts: dict[str, TensorLayout]
    instances: list[Instance]
    partitions: Partitions
    unread: frozenset[Place] = frozenset()
    along: dict[Occurrence, tuple[Occurrence, ...]] = field(default_factory=dict)


def resolve(values: Iterable[Value], relations: Sequence[Relation], ends: Iterable[str]) -> Resolution:
    """Tie the occurrences of `values` by all `relations`; frozen axes and limited variables are pinned.

    Cells that do not contribute to the tensors `ends` do not move by themselves.
    """
    factors = Factors()
    partitions = Partitions()
    layouts = {value.name: TensorLayout(value, partitions) for value in values}
    for layout in layouts.values():
        for cell in layout.cells():
            for occurrence, axis in layout.occurrences(cell):
                factors.add(occurrence)
                if axis.frozen:
                    factors.pin(occurrence, axis.frozen)
    instances: list[Instance] = []
    for relation in relations:
        instances += Reader(JointCells(relation, partitions), layouts, factors).read()
    reading = Reading(layouts, ends)
    reading.follow([(instance.relation, instance.cells) for instance in instances])
    stored = [name for name, layout in layouts.items() if layout.value.kind in STORED]
    unread = reading.unread(stored)
    along = _hold(factors, [layouts[name] for name in stored], unread) if unread else {}
    return Resolution(factors, layouts, [i for i in instances if i.operands], partitions, unread, along)


def _hold(
    factors: Factors, stored: Sequence[TensorLayout], unread: frozenset[Place]
) -> dict[Occurrence, tuple[Occurrence, ...]]:
    """Tie unread cells to those that are read, and pin the others."""
    places = [
        (o, (layout.value.name, cell) in unread)
        for layout in stored
        for cell in layout.cells()
        for o, _ in layout.occurrences(cell)
    ]
    moving = {factors.find(occurrence) for occurrence, is_unread in places if not is_unread}
    along: dict[Occurrence, tuple[Occurrence, ...]] = {}
    for layout in stored:
        for first, others, read in list(ties_of_unread(layout, unread, factors.find, moving)):
            for other in (*others, *read[:1]):
                factors.tie(first, other, ALONG)
            along.update(dict.fromkeys((first, *others), read) if read else {})
    moving = {factors.find(occurrence) for occurrence, is_unread in places if not is_unread}
    for occurrence, is_unread in places:
        if is_unread and factors.find(occurrence) not in moving:
            factors.pin(occurrence, UNREAD)
    return along
