"""Results whose positions are in no order that is promised, as those of `topk(sorted=False)`.

The k largest units of each row are a set. An implementation returns them in an order that may depend on where the units
stand, so moving the units moves the results of every row among themselves, each row in a way of its own. That is no
harm where nothing tells these positions apart: where their factor is free, belongs to no weight, and occurs only
beside the row. Anywhere else the units must stay.
"""

from __future__ import annotations

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.dependence import dependencies, partners
from permgraph.algebra.instances import Instance
from permgraph.algebra.ties import STORED, Resolution

UNORDERED = "the largest values in no order that is promised"


def hold_unordered(resolution: Resolution) -> None:
    """Pin the units of which an operation returns some in no order, wherever that order matters."""
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
    """What the factors are at the moment."""

    def __init__(self, resolution: Resolution) -> None:
        factors = resolution.factors
        self.find, self.pinned = factors.find, factors.pinned
        self.allowed = dependencies(resolution, partners(resolution))
        layouts, self.partitions = resolution.layouts, resolution.partitions
        self.stored = {
            kind
            for kind, members in factors.classes.items()
            if any(layouts[o.tensor].value.kind in STORED for o in members)
        }

    def harmless(self, instance: Instance) -> bool:
        """Whether the positions may change places in every row apart."""
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
