"""What shifts need to know of operations: which are sums of products, and along which axes sums are constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.instances import Instance
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import LINEAR, SAME, Law
from permgraph.algebra.reading import Place
from permgraph.algebra.relations import Value
from permgraph.algebra.ties import Resolution

Term = tuple[int, ...]
"""The entries of an instance whose product is one term."""


def formula(instance: Instance, results: Sequence[Place], resolution: Resolution) -> list[Term] | None:
    """An operation's single result as a sum of products of entries of the instance; None if it is not such a sum."""
    if len(results) != 1 or not _is_plain(instance, resolution):
        return None
    result = instance.operands[instance.cells.index(results[0])]
    laws = (instance.relation.laws.get(name) for name, _ in result)
    law = next((law for law in laws if law is not None and _is_sum(law)), None)
    if law is None or is_bent(instance, instance.cells.index(results[0])):
        return None
    given = [k for k, place in enumerate(instance.cells) if place not in results]
    if not law.terms:
        return [(given[0],)] if len(given) == 1 else None
    entry = {instance.places[k]: k for k in given}
    if len(entry) != len(given) or not {place for term in law.terms for place in term} <= entry.keys():
        return None
    return [tuple(entry[place] for place in term) for term in law.terms]


def is_bent(instance: Instance, k: int) -> bool:
    """Whether the result is not linear in an entry, or is not linear itself: one of the two is normalised or bent."""
    place, linear = instance.places[k], (Kind.INVERTIBLE, Kind.MONOMIAL)
    laws = instance.relation.laws.values()
    return any(place in law.inverse or law.within.get(place, Kind.INVERTIBLE) not in linear for law in laws)


def is_told(instance: Instance, term: Term) -> bool:
    """Whether every index of a term has a law; without one, the operation may select some positions of the index."""
    names = {name for k in term for name, _ in instance.operands[k]}
    return all((law := instance.relation.laws.get(name)) is not None and _is_sum(law) for name in names)


def _is_sum(law: Law) -> bool:
    return not (law.loose or law.even or law.unsized) and law.power == 1


def _is_plain(instance: Instance, resolution: Resolution) -> bool:
    """Whether every index of every tensor is one of the relation, and all hold numbers that may be added to."""
    for operand, (name, cell) in zip(instance.operands, instance.cells, strict=True):
        layout = resolution.layouts[name]
        carried = set(operand.values())
        for occurrence, _ in layout.occurrences(cell):
            told = occurrence in carried or occurrence.dim in layout.value.uniform
            if not told and layout.size(occurrence) > 1:
                return False
    made = instance.relation.made or frozenset()
    return all(resolution.layouts[name].value.largest is Kind.INVERTIBLE for name, _ in instance.cells if name in made)


def copied(instance: Instance, resolution: Resolution) -> tuple[Place, Place] | None:
    """(result, operand) of an operation whose result has the elements of its operand and no others, as a view has."""
    given = carriers(instance)
    results = [k for k in range(len(instance.cells)) if k not in given]
    if len(given) != 1 or len(results) != 1 or not _is_plain(instance, resolution):
        return None
    operand, result = instance.operands[given[0]], instance.operands[results[0]]
    same = all(instance.relation.laws.get(name) == SAME for name, _ in operand)
    return (instance.cells[results[0]], instance.cells[given[0]]) if same and operand.keys() == result.keys() else None


def carriers(instance: Instance) -> list[int]:
    """The entries that the operation reads."""
    made = instance.relation.made or frozenset()
    return [k for k, place in enumerate(instance.cells) if place[0] not in made]


def is_uniform(value: Value) -> bool:
    """Whether a tensor is uniform along some axis, which relations do not mention."""
    return any(value.shape[dim] > 1 for dim in value.uniform)


def is_whole(resolution: Resolution, instance: Instance, variable: str) -> bool:
    """Whether a variable is not cut."""
    return len(resolution.partitions.of(instance.relation.variables[variable]).boxes) == 1


@dataclass
class Steady:
    """For each cell the occurrences along which its sum is one constant, as along the axis of a softmax."""

    resolution: Resolution
    _found: dict[Place, frozenset[Occurrence]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for instance in self.resolution.instances:
            made = instance.relation.made or frozenset()
            results = [k for k, place in enumerate(instance.cells) if place[0] in made]
            for k in results if len(results) == 1 else ():
                here = self._made(instance, k)
                place = instance.cells[k]
                self._found[place] = here & self._found[place] if place in self._found else here

    def of(self, place: Place) -> frozenset[Occurrence]:
        """The occurrences of a cell along which its sum is one constant."""
        return self._found.get(place, frozenset())

    def _made(self, instance: Instance, k: int) -> frozenset[Occurrence]:
        result = instance.operands[k]
        steady = [name for name in instance.relation.steady if is_whole(self.resolution, instance, name)]
        slots = [[slot for slot in result if slot[0] == name] for name in steady]
        declared = frozenset(result[one[0]] for one in slots if len(one) == 1)
        given = carriers(instance)
        if declared or len(given) != 1 or not _is_plain(instance, self.resolution):
            return declared
        operand, before = instance.operands[given[0]], self.of(instance.cells[given[0]])
        laws = [instance.relation.laws.get(name) for name, _ in operand]
        if not operand.keys() <= result.keys() or any(law not in (SAME, LINEAR) for law in laws):
            return frozenset()
        return frozenset(result[slot] for slot, occurrence in operand.items() if occurrence in before)
