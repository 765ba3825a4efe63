"""Results whose positions have no guaranteed order, such as those of `topk(sorted=False)`.

The k largest units of each row are a set. Their order may depend on the positions of the units, so moving the units can
permute the results of every row differently. This is harmless if no operation distinguishes these positions: their
factor is free, is on no weight, and occurs only together with the row. Otherwise the units are pinned.
"""

from __future__ import annotations

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.dependence import dependencies, selectors_of
from permgraph.algebra.instances import Instance
from permgraph.algebra.ties import STORED, Resolution

UNORDERED = "the largest values in no order that is promised"


def hold_unordered(resolution: Resolution) -> None:
    """Pin the units of which an operation returns some without a guaranteed order, wherever that order matters."""
    left = [instance for instance in resolution.instances if instance.relation.unordered]
    while left:
        seen = _Seen(resolution)
        failing = [instance for instance in left if not seen.harmless(instance)]
        if not failing:
            return
        for instance in failing:
            for variable in [name for pair in instance.relation.unordered.items() for name in pair]:
                for occurrence in _carriers(instance, variable):
                    resolution.factors.pin(occurrence, f"{instance.relation.source}: {UNORDERED}")
        resolution.factors.forget()
        left = [instance for instance in left if instance not in failing]


class _Seen:
    """The present factors."""

    def __init__(self, resolution: Resolution) -> None:
        factors = resolution.factors
        self.find, self.pinned = factors.find, factors.pinned
        self.allowed = dependencies(resolution, selectors_of(resolution))
        layouts, self.partitions = resolution.layouts, resolution.partitions
        self.stored = {
            kind
            for kind, members in factors.classes.items()
            if any(layouts[o.tensor].value.kind in STORED for o in members)
        }

    def harmless(self, instance: Instance) -> bool:
        """Whether the positions may be permuted separately in every row."""
        for unit, place in instance.relation.unordered.items():
            (*others, box) = self.partitions.of(instance.relation.variables[place]).boxes
            if others or len(box.leaves) > 1:
                return False
            rows = {
                self.find(o)
                for name in instance.relation.variables
                if name not in (unit, place)
                for o in _carriers(instance, name)
            }
            for kind in {self.find(o) for o in _carriers(instance, place)}:
                if kind in self.pinned or kind in self.stored or not rows <= self.allowed.get(kind, set()):
                    return False
        return True


def _carriers(instance: Instance, variable: str) -> list[Occurrence]:
    return [o for operand in instance.operands for (name, _), o in operand.items() if name == variable]
