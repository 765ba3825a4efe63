"""Elements of a symmetry group: a table of index vectors for every factor, and their composition.

A permutation is an index vector with `new = old[perm]`. The table of a group of size n that depends on groups of
sizes (m1, m2, …) has shape (m1, m2, …, n); its row is selected by the new coordinates of what it depends on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import lgamma, log, prod

import numpy as np

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.layout import Index


@dataclass(frozen=True)
class PermutationGroup:
    """One free factor of the symmetry group of a model's weights.

    Attributes:
        name: unique in its specification.
        size: n, the number of units that are permuted.
        depends_on: the factors whose index selects the permutation; () where one permutation serves everywhere.
        axes: (parameter, dim) pairs that it acts on.
        count: how many independent permutations it holds, the product of the sizes that it depends on.
        role: "residual", "attention.heads", "attention.qk", "attention.vo", "feed_forward", "conv" or "other".
        depends_sizes: the sizes of `depends_on`.

    """

    name: str
    size: int
    depends_on: tuple[str, ...]
    axes: tuple[tuple[str, int], ...]
    role: str
    depends_sizes: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many independent permutations of `size` units."""
        return prod(self.depends_sizes)

    @property
    def log10_order(self) -> float:
        """log10 of the number of elements, count · log10(size!)."""
        return self.count * lgamma(self.size + 1) / log(10)

    @property
    def table_shape(self) -> tuple[int, ...]:
        """Shape of the table of index vectors."""
        return (*self.depends_sizes, self.size)

    def identity(self) -> Index:
        """The table that moves nothing."""
        return np.broadcast_to(np.arange(self.size), self.table_shape).copy()


@dataclass(frozen=True, eq=False)
class Permutations(Mapping[str, Index]):
    """One element of a symmetry group: the table of every group, by name."""

    tables: Mapping[str, Index]

    def __getitem__(self, group: str) -> Index:
        return self.tables[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Permutations):
            return NotImplemented
        return set(self) == set(other) and all(np.array_equal(self[name], other[name]) for name in self)

    __hash__ = None  # type: ignore[assignment]

    @property
    def moved(self) -> dict[str, float]:
        """The share of units of each group that do not stay where they are."""
        return {name: float(np.mean(table != np.arange(table.shape[-1]))) for name, table in self.tables.items()}


def checked(groups: Sequence[PermutationGroup], permutations: Mapping[str, Index]) -> dict[str, Index]:
    """Tables for all groups, the identity for those not given; SpecMismatchError where one does not fit."""
    unknown = [name for name in permutations if name not in {group.name for group in groups}]
    if unknown:
        raise SpecMismatchError(
            f"permutations name groups that the specification lacks: {', '.join(unknown)}; take those of one model"
        )
    tables = {}
    for group in groups:
        table = np.asarray(permutations.get(group.name, group.identity()), dtype=np.int64)
        if table.shape != group.table_shape or np.any(np.sort(table, axis=-1) != np.arange(group.size)):
            raise SpecMismatchError(
                f"{group.name}: a table of permutations of {group.size} units with shape {group.table_shape} is "
                f"needed, got shape {table.shape}"
                + ("" if table.shape != group.table_shape else " with repeated units")
            )
        tables[group.name] = table
    return tables


def sample(groups: Sequence[PermutationGroup], seed: int | None) -> Permutations:
    """A uniformly random element."""
    generator = np.random.default_rng(seed)
    return Permutations({group.name: generator.permuted(group.identity(), axis=-1) for group in groups})


def source_rows(
    groups: Mapping[str, PermutationGroup], group: PermutationGroup, tables: Mapping[str, Index]
) -> tuple[Index, ...]:
    """For every new row of a group's table, the old row: the images of what it depends on.

    Factors that are not groups are pinned, and so their own images.
    """
    grid = np.indices(group.depends_sizes, sparse=True) if group.depends_sizes else ()
    here = dict(zip(group.depends_on, grid, strict=True))
    return tuple(
        tables[name][(*(here[key] for key in groups[name].depends_on), here[name])] if name in groups else here[name]
        for name in group.depends_on
    )


def compose(groups: Sequence[PermutationGroup], p: Mapping[str, Index], q: Mapping[str, Index]) -> Permutations:
    """The element that acts as `q` first and `p` then: (p q)[row][i] = q[p(row)][p[row][i]]."""
    by_name = {group.name: group for group in groups}
    left, right = checked(groups, p), checked(groups, q)
    tables = {}
    for group in groups:
        rows = tuple(row[..., None] for row in source_rows(by_name, group, left))
        tables[group.name] = right[group.name][(*rows, left[group.name])]
    return Permutations(tables)


def invert(groups: Sequence[PermutationGroup], p: Mapping[str, Index]) -> Permutations:
    """The element that undoes `p`."""
    by_name = {group.name: group for group in groups}
    tables = checked(groups, p)
    inverse: dict[str, Index] = {}
    for group in groups:
        result = np.empty_like(tables[group.name])
        rows = source_rows(by_name, group, tables)
        result[rows] = np.argsort(tables[group.name], axis=-1)
        inverse[group.name] = result
    return Permutations(inverse)
