"""Classes of occurrences that move together, with the ties and pins that made them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.relations import Source


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
        root = parent[occurrence]
        while (above := parent[root]) is not root:
            root = above
        while occurrence is not root:
            occurrence, parent[occurrence] = parent[occurrence], root
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
