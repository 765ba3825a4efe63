"""Bundles: groups before they have names, as classes of occurrences whose product is one index set."""

from __future__ import annotations

from dataclasses import dataclass

from permgraph.algebra.cells import Occurrence


@dataclass(frozen=True)
class Bundle:
    """One group before it has a name: the classes whose product it moves, and the bundles it depends on."""

    classes: tuple[Occurrence, ...]
    size: int
    depends_on: tuple[Bundle, ...]
    free: bool
