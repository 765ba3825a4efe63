"""Elements for a proof: together they move every group, and no two of its small rows always move together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations

TURNS = {2: ((1, 0),), 3: ((1, 0, 2), (1, 2, 0), (0, 2, 1), (2, 0, 1), (2, 1, 0))}
"""All permutations of this few units except the identity; of three units, swaps and rotations in turn."""
MOST = 6  # elements that are added for small tables, enough to distinguish 2**6 - 1 rows


def moving_elements(
    groups: Sequence[PermutationGroup], seed: int, at_least: int, most: int = MOST
) -> list[Permutations]:
    """At least `at_least` random elements that together move every row of every table.

    A row of four or more units is deranged in every element: no unit stays in place. Two rows of two or three units
    could move alike by chance, which would hide that they must move together. So each such row moves in a subset of the
    elements of its own and stays in the others; where it moves, it takes its permutations in turn. k elements have
    2ᵏ - 1 such subsets; as many elements are made as these rows need, up to `most`. A single element moves all rows.
    """
    generator = np.random.default_rng(seed)
    rows = sum(group.count for group in groups if group.size in TURNS)
    number = max(at_least, min(rows.bit_length(), most))
    bits = min(number, MOST)
    order = generator.permutation(2**bits - 1) + 1
    codes = iter(np.resize(order, rows))
    tables: list[dict[str, Any]] = [{} for _ in range(number)]
    for group in groups:
        own = np.array([next(codes) for _ in range(group.count)]) if group.size in TURNS else None
        first = generator.integers(len(TURNS.get(group.size, ())) or 1, size=group.count)
        for k, table in enumerate(tables):
            if own is None:
                found = _deranged(group, generator)
            else:
                moves = (own >> k % bits & 1).astype(bool)
                found = np.where(moves[:, None], np.array(TURNS[group.size])[first], np.arange(group.size))
                first = (first + moves) % len(TURNS[group.size])
            before = tables[k - 1].get(group.name) if k % 2 else None
            table[group.name] = _changed(group, found.reshape(group.table_shape), before, generator)
    return [Permutations(table) for table in tables]


def _changed(group: PermutationGroup, index: Index, before: Any, generator: np.random.Generator) -> Any:
    """A part of the group's kind with this permutation; every second one has the opposite signs of the one before."""
    if group.kind == "permutation":
        return index
    part = parts.sample(group.kind, group.table_shape, generator)
    if Kind(group.kind).mixes:
        return part
    signs = part.scale if before is None else -np.sign(before.scale) * np.abs(part.scale)
    return parts.Monomial(index, np.abs(signs) if group.kind == "scaled" else signs)


def _deranged(group: PermutationGroup, generator: np.random.Generator) -> Index:
    """[count, size]: a random permutation a row, without fixed units where there are two or more."""
    still = np.arange(group.size)
    table: Index = generator.permuted(np.tile(still, (group.count, 1)), axis=1)
    while group.size > 1 and (fixed := (table == still).any(axis=1)).any():
        table[fixed] = generator.permuted(table[fixed], axis=1)
    return table
