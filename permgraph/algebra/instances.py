"""Relations read cell by cell: which occurrences of its tensors an operation ties in each joint cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from permgraph.algebra.boxes import Box
from permgraph.algebra.cells import Occurrence, TensorLayout
from permgraph.algebra.factors import Factors
from permgraph.algebra.joint_cells import Choice, JointCells, within
from permgraph.algebra.kinds import Kind
from permgraph.algebra.reading import Place
from permgraph.algebra.relations import Dim, Relation

MAX_JOINT_CELLS = 20_000  # a relation that is cut finer than this pins its tensors
MISFIT = "the parts of this axis are told apart here"

Slot = tuple[str, int]
"""A leaf of a variable in one joint cell of a relation: (variable, position in its box)."""
Cell = tuple[int, ...]


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


@dataclass(frozen=True)
class _Placed:
    """The cells of an operand for some boxes of its variables, each with slot -> occurrence.

    There are none if a range excludes the operand. `blurred` are the variables whose structure does not fit.
    """

    cells: Sequence[tuple[Cell, dict[Slot, Occurrence]]]
    blurred: frozenset[str]


@dataclass
class Reader:
    """Reads one relation. Results for some boxes are reused for all joint cells with these boxes."""

    joint: JointCells
    layouts: Mapping[str, TensorLayout]
    factors: Factors
    _placed: dict[tuple[int, Choice], _Placed] = field(default_factory=dict)
    _tied: set[tuple[Occurrence, Occurrence]] = field(default_factory=set)
    _pinned: set[tuple[Occurrence, bool]] = field(default_factory=set)
    _hidden: dict[tuple[int, tuple[Box, ...], Slot], Occurrence] = field(default_factory=dict)

    @property
    def relation(self) -> Relation:
        """The relation that is read."""
        return self.joint.relation

    def read(self) -> list[Instance]:
        """Make the ties and pins of the relation, and return its instances, one for each joint cell."""
        if self.joint.count > MAX_JOINT_CELLS:
            return [self._refused()]
        return [self._instance(choice, present) for choice, present in self.joint]

    def _refused(self) -> Instance:
        tensors = [self.layouts[operand.value.name] for operand in self.relation.operands]
        for layout in tensors:
            self._pin_tensor(layout, "cut into too many cells")
        cells = [(layout.value.name, cell) for layout in tensors for cell in layout.cells()]
        return Instance(self.relation, (), cells=cells)

    def _instance(self, choice: Choice, present: Sequence[int]) -> Instance:
        chosen = {name: part.boxes[k] for (name, part), k in zip(self.joint.parts.items(), choice, strict=True)}
        instance = Instance(self.relation, choice)
        blurred: set[str] = set()
        for k in present:
            place = k, tuple(choice[at] for at in self._variables[k])
            if place not in self._placed:
                self._placed[place] = self._place(k, chosen)
            placed = self._placed[place]
            blurred |= placed.blurred
            for cell, carried in placed.cells:
                instance.operands.append(carried)
                instance.places.append(k)
                instance.cells.append((self.relation.operands[k].value.name, cell))
        instance.inner = [
            frozenset((name, k) for name in inner for k in range(len(chosen[name].leaves)))
            for inner in self.relation.inner
        ]
        self._tie_slots(instance, blurred)
        self._tie_hidden(instance, chosen)
        return instance

    @cached_property
    def _variables(self) -> list[list[int]]:
        """For each operand the places of its variables in a choice."""
        place = {name: k for k, name in enumerate(self.joint.parts)}
        return [
            sorted({place[atom.variable] for dim in operand.dims for atom in dim}) for operand in self.relation.operands
        ]

    def _tie(self, a: Occurrence, b: Occurrence) -> None:
        if (a, b) not in self._tied:
            self._tied.add((a, b))
            self.factors.tie(a, b, self.relation.source)

    def _tie_slots(self, instance: Instance, blurred: set[str]) -> None:
        carriers: dict[Slot, list[Occurrence]] = {}
        for operand in instance.operands:
            for slot, occurrence in operand.items():
                carriers.setdefault(slot, []).append(occurrence)
        for (variable, _), occurrences in carriers.items():
            for other in occurrences[:-1]:
                self._tie(other, occurrences[-1])
            what, why = self.relation.limits.get(variable, (Kind.PERMUTATION, ""))
            if variable in blurred:
                what, why = Kind.IDENTITY, MISFIT
            if what is Kind.IDENTITY:
                rigid = variable in blurred or variable not in self.relation.laws
                for occurrence in occurrences:
                    self._pin(occurrence, why, rigid=rigid)

    def _tie_hidden(self, instance: Instance, chosen: Mapping[str, Box]) -> None:
        """Tie tensors that the operation forms internally across all segments of variables that they do not carry."""
        if not instance.inner:
            return
        carriers = {slot: occurrence for operand in instance.operands for slot, occurrence in operand.items()}
        for k, slots in enumerate(instance.inner):
            place = tuple(chosen[name] for name in sorted(self.relation.inner[k]))
            for slot in sorted(slots & carriers.keys()):
                self._tie(self._hidden.setdefault((k, place, slot), carriers[slot]), carriers[slot])

    def _place(self, k: int, chosen: Mapping[str, Box]) -> _Placed:
        operand = self.relation.operands[k]
        layout = self.layouts[operand.value.name]
        options: list[list[DimOption]] = []
        blurred: set[str] = set()
        for dim, atoms in enumerate(operand.dims):
            found = _dim_options(dim, atoms, chosen, layout)
            if found is None:
                blurred |= {atom.variable for atom in atoms}
                self._pin_tensor(layout, MISFIT, dim)
                found = _every_box(dim, layout)
            if not found:
                return _Placed((), frozenset(blurred))
            options.append(found)
        return _Placed([self._carried(layout.value.name, choice) for choice in product(*options)], frozenset(blurred))

    def _carried(self, tensor: str, choice: Sequence[DimOption]) -> tuple[Cell, dict[Slot, Occurrence]]:
        cell = tuple(index for index, _ in choice)
        carried: dict[Slot, Occurrence] = {}
        for dim, (_, slots) in enumerate(choice):
            for position, slot in enumerate(slots):
                if slot is None:
                    continue
                occurrence = Occurrence(tensor, cell, dim, position)
                before = carried.setdefault(slot, occurrence)
                if before is not occurrence:  # one variable twice on one tensor: a diagonal
                    self._tie(before, occurrence)
                    self.factors.diagonal |= {before, occurrence}
        return cell, carried

    def _pin_tensor(self, layout: TensorLayout, why: str, dim: int | None = None) -> None:
        for cell in layout.cells():
            for occurrence, _ in layout.occurrences(cell):
                if dim is None or occurrence.dim == dim:
                    self._pin(occurrence, why, rigid=True)

    def _pin(self, occurrence: Occurrence, why: str, *, rigid: bool) -> None:
        if (occurrence, rigid) not in self._pinned:
            self._pinned.add((occurrence, rigid))
            self.factors.pin(occurrence, f"{self.relation.source}: {why}", rigid=rigid)


DimOption = tuple[int, tuple[Slot | None, ...]]


def _every_box(dim: int, layout: TensorLayout) -> list[DimOption]:
    return [(k, (None,) * len(box.leaves)) for k, box in enumerate(layout.boxes[dim])]


def _dim_options(dim: int, atoms: Dim, chosen: Mapping[str, Box], layout: TensorLayout) -> list[DimOption] | None:
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
