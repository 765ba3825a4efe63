"""The signs of units, chosen at once where several meet on one weight.

With rotary positions and a norm of queries and keys, five signs of a unit meet on the weights of the norms, in products
of up to three; with norms after the sums, a unit of the stream has two more signs for each layer. Chosen in turn, they
stay where a product is right and its factors are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.places import Place
from permgraph.symmetry.elements.permutations import PermutationGroup

ENUMERATED = 8
"""Signs of which all combinations are tried; of more, single ones and pairs are changed as long as that gains."""
ENOUGH = 1e-9
"""The least gain of a change, relative to the sum of all magnitudes of its row."""
Terms = Mapping[frozenset[str], Numbers]
"""The signs whose product acts on places -> Σ <A, B> there, [rows]."""


@dataclass(frozen=True)
class Signs:
    """The signs of one group: a table whose axes are called `axes`."""

    group: PermutationGroup

    @property
    def axes(self) -> tuple[str, ...]:
        """What selects a sign: the units themselves too, where the group moves any."""
        return (*self.group.depends_on, *([self.group.name] if self.group.size > 1 else []))

    @property
    def order(self) -> list[int]:
        """The axes in the order of their names, in which tables of several groups agree."""
        return sorted(range(len(self.axes)), key=lambda k: self.axes[k])

    def rows(self, table: Numbers) -> Numbers:
        """[rows] of a table of this group, in the common order."""
        return table.reshape(self._shape).transpose(self.order).reshape(-1)

    def table(self, rows: Numbers) -> Numbers:
        """The table of the group from rows in the common order."""
        shape = [self._shape[k] for k in self.order]
        return rows.reshape(shape).transpose(np.argsort(self.order)).reshape(self.group.table_shape)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.group.table_shape if self.group.size > 1 else self.group.table_shape[:-1]


def met(groups: Iterable[PermutationGroup], where: Mapping[str, Sequence[Place]]) -> list[tuple[Signs, ...]]:
    """The sets of signs that are chosen at once: with the same axes, and together on some weight.

    Signs of a group that moves units are among them only where another sign is: they are matched with its order.
    """
    found = [Signs(group) for group in groups if Kind(group.kind).has_signs]
    label = {one.group.name: one.group.name for one in found}
    for together, _ in cells_of(found, where):
        marks = {label[name] for name in together}
        label = {name: min(marks) if mark in marks else mark for name, mark in label.items()}
    sets = [tuple(one for one in found if label[one.group.name] == mark) for mark in dict.fromkeys(label.values())]
    return [members for members in sets if any(one.group.size == 1 for one in members)]


def cells_of(members: Iterable[Signs], where: Mapping[str, Sequence[Place]]) -> list[tuple[frozenset[str], Place]]:
    """The groups whose signs act together on the same rows of a cell, and the place of one of them."""
    found: dict[tuple[object, ...], tuple[set[str], Place]] = {}
    for one in members:
        for place in where[one.group.name]:
            if place.move.power % 2:
                leaves = [*place.move.keys, place.move.leaves]
                rows = tuple((one.axes[k], leaves[k]) for k in one.order)
                mark = place.name, id(place.cell), rows
                found.setdefault(mark, (set(), place))[0].add(one.group.name)
    return [(frozenset(names), place) for names, place in found.values()]


def best_signs(names: Sequence[str], terms: Terms) -> dict[str, Numbers]:
    """Signs of each group, 1 or -1, [rows], for a large Σ over terms of the product of their signs times the term.

    The largest, and of several the first of those in which the first groups change least, for at most ENUMERATED
    groups; for more, no change of one or two signs of a row gives more.
    """
    table = np.stack(list(terms.values()))
    acts = np.array([[name in members for name in names] for members in terms])
    if len(names) > ENUMERATED:
        signs = _by_pairs(table, acts)
    else:
        tried = np.array(list(product((1.0, -1.0), repeat=len(names))))
        values = _products(tried.T, acts).T @ table
        signs = tried[values.argmax(0)].T
    return dict(zip(names, signs, strict=True))


def _by_pairs(table: Numbers, acts: Numbers) -> Numbers:
    """[groups, rows]: the one or two signs of each row whose change gains most, until none gains.

    It begins at the better of no change and `_solved`.
    """
    count, rows = acts.shape[1], np.arange(table.shape[1])
    flips = np.array([[k in chosen for k in range(count)] for n in (1, 2) for chosen in combinations(range(count), n)])
    changed = (flips.astype(int) @ acts.T.astype(int)) % 2 == 1
    signs = _solved(table, acts)
    signs[:, (table * _products(signs, acts)).sum(0) < table.sum(0)] = 1.0
    for _ in range(count):
        now = table * _products(signs, acts)
        gains = -(changed.astype(float) @ now)
        best = gains.argmax(0)
        gained = gains[best, rows] > ENOUGH * np.abs(now).sum(0)
        if not gained.any():
            break
        signs *= np.where(flips[best].T & gained, -1.0, 1.0)
    return signs


def _products(signs: Numbers, acts: Numbers) -> Numbers:
    """[terms, rows]: the product of the signs that act in each term."""
    return np.stack([signs[here].prod(0) for here in acts])


def _solved(table: Numbers, acts: Numbers) -> Numbers:
    """[groups, rows]: signs that make terms positive, the largest terms first, each if those before leave it free.

    Gaussian elimination over the field of two elements; signs that no term decides stay.
    """
    pivots: list[
        tuple[int, Numbers, Numbers]
    ] = []  # of an equation: a group, all its groups, whether the product is -1
    for k in np.argsort(-np.abs(table).sum(1), kind="stable"):
        here, negative = acts[k].copy(), table[k] < 0
        for pivot, groups, odd in pivots:
            if here[pivot]:
                here, negative = here ^ groups, negative ^ odd
        if here.any():
            pivots.append((int(here.argmax()), here, negative))
    found = np.zeros((acts.shape[1], table.shape[1]), dtype=bool)
    for pivot, groups, odd in reversed(pivots):
        found[pivot] = odd ^ np.logical_xor.reduce(found[groups & (np.arange(len(groups)) != pivot)], axis=0)
    return np.where(found, -1.0, 1.0)
