"""From relations to factors: which leaves of which tensors move together, and on what each movement may depend.

A tensor is partitioned into cells: one box on each of its dimensions. In a cell every dimension is a product of
leaves, and a leaf of a cell is an `Occurrence`. A relation, read for one choice of a box for each of its variables,
ties the occurrences of every variable. The classes of the resulting union-find are the factors. Because occurrences
live in cells, the query, key and value parts of one fused weight are free of each other unless some operation ties
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from permgraph.algebra.boxes import Box, Partitions
from permgraph.algebra.cells import Occurrence, TensorLayout
from permgraph.algebra.joint_cells import Choice, JointCells
from permgraph.algebra.kinds import Kind
from permgraph.algebra.reading import ALONG, UNREAD, Place, Reading, ties_of_unread
from permgraph.algebra.relations import Atom, Dim, Operand, Relation, Source, Value

STORED = ("parameter", "buffer")
MAX_JOINT_CELLS = 20_000  # a relation that is cut finer than this pins its tensors
MISFIT = "the parts of this axis are told apart here"

Slot = tuple[str, int]
"""A leaf of a variable in one joint cell of a relation: (variable, position in its box)."""


@dataclass(frozen=True)
class Tie:
    """Two occurrences that must move together, and the operation that says so."""

    a: Occurrence
    b: Occurrence
    source: Source


@dataclass(frozen=True)
class Pin:
    """An occurrence that may not move, and why; if `rigid`, it may not change its sign or scale either."""

    occurrence: Occurrence
    reason: str
    rigid: bool = True


@dataclass
class Instance:
    """A relation read in one joint cell: for each operand, which occurrence carries which slot.

    `choice` is the index of the box of each variable; `places` says which operand of the relation each entry of
    `operands` belongs to, `cells` which cell of it.
    """

    relation: Relation
    choice: Choice
    operands: list[dict[Slot, Occurrence]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    cells: list[Place] = field(default_factory=list)
    inner: list[frozenset[Slot]] = field(default_factory=list)


class Factors:
    """Union-find over occurrences, with the ties and pins that made it."""

    def __init__(self) -> None:
        self._parent: dict[Occurrence, Occurrence] = {}
        self.ties: list[Tie] = []
        self.pins: list[Pin] = []
        self.diagonal: set[Occurrence] = set()  # one index twice on a tensor

    def add(self, occurrence: Occurrence) -> None:
        """Make `occurrence` known, alone in its class."""
        self._parent.setdefault(occurrence, occurrence)

    def find(self, occurrence: Occurrence) -> Occurrence:
        """The representative of the class of `occurrence`."""
        parent = self._parent
        root = occurrence
        while parent[root] != root:
            root = parent[root]
        while parent[occurrence] != root:
            parent[occurrence], occurrence = root, parent[occurrence]
        return root

    def tie(self, a: Occurrence, b: Occurrence, source: Source) -> None:
        """Put `a` and `b` in one class; every tie is kept for the explanation, also a redundant one."""
        if a == b:
            return
        self.ties.append(Tie(a, b, source))
        root_a, root_b = self.find(a), self.find(b)
        if root_a != root_b:
            self._parent[max(root_a, root_b)] = min(root_a, root_b)

    def pin(self, occurrence: Occurrence, reason: str, *, rigid: bool = True) -> None:
        """Forbid the class of `occurrence` to move."""
        self.pins.append(Pin(occurrence, reason, rigid))

    def forget(self) -> None:
        """Compute classes and pins anew when they are next asked for."""
        self.__dict__.pop("classes", None)
        self.__dict__.pop("pinned", None)

    @cached_property
    def classes(self) -> dict[Occurrence, list[Occurrence]]:
        """Representative -> its class, both in first-seen order."""
        found: dict[Occurrence, list[Occurrence]] = {}
        for occurrence in self._parent:
            found.setdefault(self.find(occurrence), []).append(occurrence)
        return found

    @cached_property
    def pinned(self) -> dict[Occurrence, Pin]:
        """Representative of each class that may not move -> the first pin in it."""
        found: dict[Occurrence, Pin] = {}
        for pin in self.pins:
            found.setdefault(self.find(pin.occurrence), pin)
        return found


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

    What does not contribute to the tensors `ends` does not move by itself.
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
        instances += _read(JointCells(relation, partitions), layouts, factors)
    reading = Reading(layouts, ends)
    reading.follow([(instance.relation, instance.cells) for instance in instances])
    stored = [name for name, layout in layouts.items() if layout.value.kind in STORED]
    unread = reading.unread(stored)
    along = _hold(factors, [layouts[name] for name in stored], unread) if unread else {}
    return Resolution(factors, layouts, [i for i in instances if i.operands], partitions, unread, along)


def _hold(
    factors: Factors, stored: Sequence[TensorLayout], unread: frozenset[Place]
) -> dict[Occurrence, tuple[Occurrence, ...]]:
    """Tie the cells that nothing reads to those that are read, and pin what is left of them."""
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


def _read(cells: JointCells, layouts: dict[str, TensorLayout], factors: Factors) -> list[Instance]:
    relation = cells.relation
    if cells.count > MAX_JOINT_CELLS:
        tensors = [layouts[operand.value.name] for operand in relation.operands]
        for layout in tensors:
            _pin_tensor(layout, factors, f"{relation.source}: cut into too many cells")
        return [
            Instance(relation, (), cells=[(layout.value.name, cell) for layout in tensors for cell in layout.cells()])
        ]
    found = []
    hidden: dict[tuple[int, tuple[Box, ...], Slot], Occurrence] = {}
    for choice, present in cells:
        chosen = {name: part.boxes[k] for (name, part), k in zip(cells.parts.items(), choice, strict=True)}
        instance = Instance(relation, choice)
        blurred: set[str] = set()
        for k in present:
            operand = relation.operands[k]
            for cell, carried in _place(operand, chosen, layouts[operand.value.name], factors, relation, blurred):
                instance.operands.append(carried)
                instance.places.append(k)
                instance.cells.append((operand.value.name, cell))
        instance.inner = [
            frozenset((name, k) for name in inner for k in range(len(chosen[name].leaves))) for inner in relation.inner
        ]
        _tie_slots(instance, factors, blurred)
        _tie_hidden(instance, chosen, factors, hidden)
        found.append(instance)
    return found


def _tie_hidden(
    instance: Instance,
    chosen: dict[str, Box],
    factors: Factors,
    seen: dict[tuple[int, tuple[Box, ...], Slot], Occurrence],
) -> None:
    """A tensor that the operation forms inside itself is one over all segments of what it does not carry."""
    carriers = {slot: occurrence for operand in instance.operands for slot, occurrence in operand.items()}
    for k, slots in enumerate(instance.inner):
        place = tuple(chosen[name] for name in sorted(instance.relation.inner[k]))
        for slot in sorted(slots & carriers.keys()):
            factors.tie(seen.setdefault((k, place, slot), carriers[slot]), carriers[slot], instance.relation.source)


def _pin_tensor(layout: TensorLayout, factors: Factors, why: str, dim: int | None = None) -> None:
    for cell in layout.cells():
        for occurrence, _ in layout.occurrences(cell):
            if dim is None or occurrence.dim == dim:
                factors.pin(occurrence, why)


def _tie_slots(instance: Instance, factors: Factors, blurred: set[str]) -> None:
    carriers: dict[Slot, list[Occurrence]] = {}
    for operand in instance.operands:
        for slot, occurrence in operand.items():
            carriers.setdefault(slot, []).append(occurrence)
    for (variable, _), occurrences in carriers.items():
        for other in occurrences[:-1]:
            factors.tie(other, occurrences[-1], instance.relation.source)
        what, why = instance.relation.limits.get(variable, (Kind.PERMUTATION, ""))
        if variable in blurred:
            what, why = Kind.IDENTITY, MISFIT
        if what is Kind.IDENTITY:
            rigid = variable in blurred or variable not in instance.relation.laws
            for occurrence in occurrences:
                factors.pin(occurrence, f"{instance.relation.source}: {why}", rigid=rigid)


DimOption = tuple[int, tuple[Slot | None, ...]]


def _place(
    operand: Operand,
    chosen: dict[str, Box],
    layout: TensorLayout,
    factors: Factors,
    relation: Relation,
    blurred: set[str],
) -> list[tuple[tuple[int, ...], dict[Slot, Occurrence]]]:
    """The cells of an operand in a joint cell, each with slot -> occurrence; none where a range leaves it out."""
    options: list[list[DimOption]] = []
    for dim, atoms in enumerate(operand.dims):
        found = _dim_options(dim, atoms, chosen, layout)
        if found is None:
            blurred |= {atom.variable for atom in atoms}
            _pin_tensor(layout, factors, f"{relation.source}: {MISFIT}", dim)
            found = _every_box(dim, layout)
        if not found:
            return []
        options.append(found)
    placed = []
    for choice in product(*options):
        cell = tuple(index for index, _ in choice)
        carried: dict[Slot, Occurrence] = {}
        for dim, (_, slots) in enumerate(choice):
            for position, slot in enumerate(slots):
                if slot is not None:
                    _carry(carried, slot, Occurrence(layout.value.name, cell, dim, position), factors, relation.source)
        placed.append((cell, carried))
    return placed


def _carry(
    carried: dict[Slot, Occurrence], slot: Slot, occurrence: Occurrence, factors: Factors, source: Source
) -> None:
    if slot in carried:  # one variable twice on one tensor: a diagonal
        factors.tie(carried[slot], occurrence, source)
        factors.diagonal |= {carried[slot], occurrence}
    else:
        carried[slot] = occurrence


def _every_box(dim: int, layout: TensorLayout) -> list[DimOption]:
    return [(k, (None,) * len(box.leaves)) for k, box in enumerate(layout.boxes[dim])]


def _dim_options(dim: int, atoms: Dim, chosen: dict[str, Box], layout: TensorLayout) -> list[DimOption] | None:
    """The boxes of a dimension that meet the chosen boxes of its atoms, with the slot of each leaf.

    None where the structures do not fit: a frozen axis is not refined, so a part of it has no box of its own. The
    caller then meets every box of the dimension and pins them all.
    """
    if not atoms:
        return _every_box(dim, layout)
    offset, stride = 0, 1
    shape: list[tuple[int, int]] = []
    slots: tuple[Slot | None, ...] = ()
    for atom in reversed(atoms):
        box = chosen[atom.variable]
        inside = within(box, atom)
        if not inside:
            return None if inside is None else []
        offset += (box.offset - atom.start) * stride
        shape = [(leaf.size, leaf.stride * stride) for leaf in box.leaves] + shape
        slots = (*((atom.variable, k) for k in range(len(box.leaves))), *slots)
        stride *= atom.size
    index = layout.find(dim, offset, tuple(shape))
    return None if index is None else [(index, slots)]


def within(box: Box, atom: Atom) -> bool | None:
    """Whether a box lies in the range of an atom (True), outside it (False), or across its edge (None)."""
    if atom.start <= box.offset and box.last < atom.stop:
        return True
    if box.last < atom.start or box.offset >= atom.stop:
        return False
    return None
