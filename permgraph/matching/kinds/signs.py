"""The further signs of units, those beside the sign of the group that moves them: all that meet are chosen at once.

With rotary positions and a norm of queries and keys, five signs of a unit meet on the weights of the norms, in products
of up to three: chosen in turn, they stay where a product is right and its factors are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.places import Place

ENUMERATED = 8
"""Signs of which all combinations are tried; more are chosen in turn."""
Terms = Mapping[frozenset[str], Numbers]
"""The signs whose product acts on places -> Σ <A, B> there, [rows]."""


def met(where: Mapping[str, Sequence[Place]], names: Collection[str]) -> list[tuple[str, ...]]:
    """The sets of groups that are chosen at once: those whose signs act on the same rows of a cell."""
    label = {name: name for name in names}
    for together, _ in cells_of(where, names):
        marks = {label[name] for name in together}
        label = {name: min(marks) if mark in marks else mark for name, mark in label.items()}
    found: dict[str, list[str]] = {}
    for name, mark in label.items():
        found.setdefault(mark, []).append(name)
    return [tuple(members) for members in found.values()]


def cells_of(where: Mapping[str, Sequence[Place]], names: Collection[str]) -> Iterator[tuple[frozenset[str], Place]]:
    """The groups of `names` whose signs act on the same rows of a cell, and that place."""
    found: dict[tuple[object, ...], tuple[set[str], Place]] = {}
    for name in names:
        for place in where[name]:
            if place.move.power % 2:
                found.setdefault((place.name, id(place.cell), place.move.keys), (set(), place))[0].add(name)
    for members, place in found.values():
        yield frozenset(members), place


def best_signs(names: Sequence[str], terms: Terms) -> dict[str, Numbers]:
    """Signs of each group, 1 or -1, [rows], that maximise Σ over terms of the product of their signs times the term.

    Of combinations that are equally good, the first of those in which the first groups change least.
    """
    if len(names) > ENUMERATED:
        return _in_turn(names, terms)
    tried = np.array(list(product((1.0, -1.0), repeat=len(names))))
    signs = dict(zip(names, tried.T, strict=True))
    values: Numbers = sum(_product(signs, members)[:, None] * term for members, term in terms.items())  # type: ignore[assignment]
    best = values.argmax(0)
    return {name: column[best] for name, column in signs.items()}


def _in_turn(names: Sequence[str], terms: Terms) -> dict[str, Numbers]:
    rows = len(next(iter(terms.values())))
    signs = {name: np.ones(rows) for name in names}
    for name in names:
        total = sum(term * _product(signs, members - {name}) for members, term in terms.items() if name in members)
        signs[name] = np.where(total < 0, -1.0, 1.0)
    return signs


def _product(signs: Mapping[str, Numbers], members: Collection[str]) -> Numbers:
    found = np.ones_like(next(iter(signs.values())))
    for name in members:
        found = found * signs[name]
    return found
