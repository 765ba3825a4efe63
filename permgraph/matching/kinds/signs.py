"""The signs of units, chosen at once where several meet on one weight.

With rotary positions and a norm of queries and keys, five signs of a unit meet on the weights of the norms, in products
of up to three; with norms after the sums, a unit of the stream has two more signs for each layer. Chosen in turn, they
stay where a product is right and its factors are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from typing import Any

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
    def sizes(self) -> dict[str, int]:
        """The size of each axis."""
        return dict(zip(self.axes, self.group.table_shape, strict=False))

    def along(self, axes: Mapping[str, int], table: Numbers) -> Numbers:
        """A table of this group with all of `axes`, of size 1 where it has none of that name."""
        order = [self.axes.index(name) for name in axes if name in self.axes]
        sizes = [size if name in self.axes else 1 for name, size in axes.items()]
        return table.reshape(tuple(self.sizes.values())).transpose(order).reshape(sizes)

    def table(self, axes: Mapping[str, int], whole: Numbers) -> Numbers:
        """The group's table of one with all of `axes`, the same along those that the group does not have."""
        mine = [name for name in axes if name in self.axes]
        own = whole[tuple(slice(None) if name in self.axes else 0 for name in axes)]
        return own.transpose([mine.index(name) for name in self.axes]).reshape(self.group.table_shape)


Term = tuple[frozenset[str], Signs, Numbers]
"""The groups whose signs act, one of them that has the axes of all, and Σ <A, B> in a table of that group."""


def met(groups: Iterable[PermutationGroup], where: Mapping[str, Sequence[Place]]) -> list[tuple[Signs, ...]]:
    """The sets of signs that are chosen at once: those together on some weight, one of which has the axes of all.

    Signs of a group that moves units are among them only where another sign is: they are matched with its order.
    """
    found = [Signs(group) for group in groups if Kind(group.kind).has_signs]
    label = {one.group.name: one.group.name for one in found}
    for together, _ in cells_of(found, where):
        marks = {label[name] for name in together}
        label = {name: min(marks) if mark in marks else mark for name, mark in label.items()}
    sets, left = list[tuple[Signs, ...]](), found
    while left:
        finest = max(left, key=lambda one: len(one.axes))
        mark, axes = label[finest.group.name], set(finest.axes)
        sets.append(tuple(one for one in left if label[one.group.name] == mark and axes.issuperset(one.axes)))
        left = [one for one in left if one not in sets[-1]]
    return [members for members in sets if any(one.group.size == 1 for one in members)]


def cells_of(members: Iterable[Signs], where: Mapping[str, Sequence[Place]]) -> list[tuple[frozenset[str], Place]]:
    """The groups whose signs act together on a cell, and the place of one that has the axes of all of them.

    A sign of several rows, as that of a key for all queries that read it, acts together with the sign of each row.
    """
    found: dict[Any, list[tuple[dict[str, Any], set[str], Place]]] = {}
    acting = [(one, place) for one in members for place in where[one.group.name] if place.move.power % 2]
    for one, place in sorted(acting, key=lambda pair: -len(pair[0].axes)):
        rows = dict(zip(one.axes, [*place.move.keys, place.move.leaves], strict=False))
        here = found.setdefault((place.name, id(place.cell)), [])
        same = next((names for whole, names, _ in here if rows.items() <= whole.items()), None)
        if same is None:
            here.append((rows, {one.group.name}, place))
        else:
            same.add(one.group.name)
    return [(frozenset(names), place) for here in found.values() for _, names, place in here]


def chosen(members: Sequence[Signs], terms: Iterable[Term]) -> dict[str, Numbers]:
    """The tables of signs of each group, for a large Σ over terms of the product of their signs times the term.

    Where groups have fewer axes than others, each row is solved by itself, the sum over rows decides their signs, and
    the other signs are chosen anew; where that is worse than no change, nothing changes.
    """
    axes = dict(sorted(max((one.sizes for one in members), key=len, default={}).items()))
    shape, rows = tuple(axes.values()), dict[frozenset[str], Numbers]()
    for names, one, table in terms:
        part = one.along(axes, table)
        rows[names] = rows.get(names, 0.0) + np.broadcast_to(part * (part.size / prod(shape)), shape).reshape(-1)
    known = {one.group.name: one for one in members if any(one.group.name in names for names in rows)}
    signs = best_signs(list(known), rows) if rows else {}
    lack = {name: _missing(one, axes) for name, one in known.items() if len(one.axes) < len(axes)}
    if lack:
        fixed = {name: _majority(signs[name].reshape(shape), along) for name, along in lack.items()}
        signs = fixed | _others(rows, fixed, [name for name in known if name not in fixed])
        gain: Any = sum(part * (_product(signs, names) - 1) for names, part in rows.items())
        every = tuple(sorted({k for along in lack.values() for k in along}))
        worse = np.broadcast_to(gain.reshape(shape).sum(every, keepdims=True) < 0, shape).reshape(-1)
        signs = {name: np.where(worse, 1.0, sign) for name, sign in signs.items()}
    return {name: one.table(axes, signs[name].reshape(shape)) for name, one in known.items()}


def _missing(one: Signs, axes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(k for k, name in enumerate(axes) if name not in one.axes)


def _majority(signs: Numbers, along: tuple[int, ...]) -> Numbers:
    """[rows]: the sign of most along some axes."""
    most = np.where(signs.sum(along, keepdims=True) < 0, -1.0, 1.0)
    return np.broadcast_to(most, signs.shape).reshape(-1)


def _others(rows: Terms, fixed: Mapping[str, Numbers], names: Sequence[str]) -> dict[str, Numbers]:
    """The best signs of the other groups, those in `fixed` given."""
    left = dict[frozenset[str], Numbers]()
    for members, part in rows.items():
        if open := members.difference(fixed):
            left[open] = left.get(open, 0.0) + part * _product(fixed, members & fixed.keys())
    return best_signs(names, left) if left else {}


def _product(signs: Mapping[str, Numbers], names: Iterable[str]) -> Any:
    return prod((signs[name] for name in names), start=np.float64(1.0))


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

    Gaussian elimination over the field of two elements, an equation for each term: a group of its own, all its groups,
    and whether their product is -1 in a row. Signs that no term decides stay.
    """
    pivots = list[tuple[int, Numbers, Numbers]]()
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
