"""Elements of a symmetry group: a part for every factor, and their composition.

A permutation is an index vector with `new = old[perm]`. The table of a group of size n that depends on groups of
sizes (m1, m2, …) has shape (m1, m2, …, n); its row is selected by the new indices of these groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import lgamma, log, log10, prod
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Facts, Kind
from permgraph.checkpoints.json_arrays import inline
from permgraph.errors import OptionError, SpecMismatchError
from permgraph.symmetry.elements import parts, report as elements_report
from permgraph.symmetry.elements.parts import Index


@dataclass(frozen=True)
class PermutationGroup:
    """One free factor of the symmetry group of a model's weights.

    Attributes:
        name: unique in its specification.
        size: n, the number of units that are permuted.
        depends_on: the factors whose index selects the permutation; () if there is only one.
        axes: (parameter, dim) pairs that it acts on.
        count: how many independent permutations it holds, the product of the sizes that it depends on.
        role: "residual", "attention.heads", "attention.qk", "attention.vo", "experts", "recurrent", "conv",
            "feed_forward" or "other".
        depends_sizes: the sizes of `depends_on`.
        kind: "permutation", "signed" (and signs), "scaled" (and positive scales), "monomial" (both), "centred"
            (orthogonal with O 1 = 1), "orthogonal" or "invertible". A group of size 1 has only signs or scales.

    """

    name: str
    size: int
    depends_on: tuple[str, ...]
    axes: tuple[tuple[str, int], ...]
    role: str
    depends_sizes: tuple[int, ...] = ()
    kind: str = "permutation"

    def __repr__(self) -> str:
        return f"PermutationGroup({self.name}: {self.symbol} on {len(self.axes)} axes, role {self.role})"

    @property
    def count(self) -> int:
        """How many independent permutations of `size` units."""
        return prod(self.depends_sizes)

    @property
    def log10_order(self) -> float:
        """log10 of the number of its permutations and signs, count · log10(size! · 2^size); 0 for matrices."""
        kind = Kind(self.kind)
        if kind.mixes:
            return 0.0
        permutations = lgamma(self.size + 1) / log(10)
        signs = self.size * log10(2) if kind.has_signs else 0.0
        return self.count * (permutations + signs)

    @property
    def facts(self) -> Facts:
        """What is particular to its kind."""
        return Kind(self.kind).facts

    @property
    def table_shape(self) -> tuple[int, ...]:
        """Shape of the table of index vectors."""
        return (*self.depends_sizes, self.size)

    @property
    def dimension(self) -> int:
        """Dimension of the group as a manifold: count times that of its kind, 0 where it is discrete."""
        return self.count * self.facts.dimension(self.size)

    @property
    def symbol(self) -> str:
        """The group in symbols: Sym(n), ± Sym(n), R⁺ wr Sym(n), O(n), GL(n); `^ count` where it has many copies."""
        return self.symbol_of_one + (f" ^ {self.count}" if self.count > 1 else "")

    @property
    def symbol_of_one(self) -> str:
        """The symbol of one of its copies."""
        return self.facts.symbol.format(n=self.size)

    def identity(self) -> Any:
        """The part that changes nothing: the table of index vectors, for permutations."""
        return parts.identity(self.kind, self.table_shape)


@dataclass(frozen=True, eq=False)
class Permutations(Mapping[str, Any]):
    """One element of a symmetry group: the part of every group, by name; see `permgraph.symmetry.elements.parts`."""

    tables: Mapping[str, Any]

    def __getitem__(self, group: str) -> Any:
        return self.tables[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Permutations):
            return NotImplemented
        return set(self) == set(other) and all(_equal(self[name], other[name]) for name in self)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return elements_report.text(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({elements_report.headline(self)})"

    def _repr_html_(self) -> str:
        return elements_report.html(self)

    def to_data(self) -> dict[str, Any]:
        """Plain values for JSON, by group."""
        plain: dict[str, Any] = inline(self.to_arrays())
        return plain

    def to_arrays(self) -> dict[str, Any]:
        """The tables of each group as arrays."""
        return {name: parts.to_arrays(part) for name, part in self.tables.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> Permutations:
        """The inverse of `to_data`; also for the `permutations` of a `permgraph.json`.

        `arrays`: what `np.load` reads from the `permgraph.npz` beside that record, if there is one.
        """
        if not isinstance(data, Mapping):
            raise SpecMismatchError(f"an element is a mapping from groups to tables, not {type(data).__name__}")
        return Permutations({name: parts.from_data(part, arrays) for name, part in data.items()})

    @property
    def moved(self) -> dict[str, float]:
        """Group -> the share of its units that the element moves."""
        return {name: parts.moved(part) for name, part in self.tables.items()}


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else a == b


def checked(groups: Sequence[PermutationGroup], permutations: Mapping[str, Any]) -> dict[str, Any]:
    """Parts for all groups, the identity for those not given. Raises SpecMismatchError if one does not fit."""
    if not isinstance(permutations, Mapping):
        raise SpecMismatchError(
            f"an element is a mapping from groups to parts, as sample() returns, not {type(permutations).__name__}"
        )
    unknown = [name for name in permutations if name not in {group.name for group in groups}]
    if unknown:
        raise SpecMismatchError(
            f"permutations name groups that the specification lacks: {', '.join(map(str, unknown))}; take those of one "
            "model"
        )
    found = {}
    for group in groups:
        part = permutations.get(group.name)
        part = group.identity() if part is None else part
        if problem := parts.problem(group.kind, group.table_shape, part):
            raise SpecMismatchError(f"{group.name}: {problem}")
        found[group.name] = np.asarray(part, dtype=np.int64) if group.kind == "permutation" else part
    return found


def sample(groups: Sequence[PermutationGroup], seed: int | None) -> Permutations:
    """A random element, uniform for compact groups. Raises OptionError for a seed that is not a whole number."""
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise OptionError(f"a seed is a whole number from 0 up, or None, not {seed!r}") from error
    return Permutations({group.name: parts.sample(group.kind, group.table_shape, generator) for group in groups})


def source_rows(
    groups: Mapping[str, PermutationGroup], group: PermutationGroup, tables: Mapping[str, Any]
) -> tuple[Index, ...]:
    """For every new row of a group's part, the old row: the images of the indices that it depends on.

    Factors that are not groups are pinned, so their indices do not change.
    """
    grid = np.indices(group.depends_sizes, sparse=True) if group.depends_sizes else ()
    here = dict(zip(group.depends_on, grid, strict=True))
    return tuple(
        parts.index_of(tables[name])[(*(here[key] for key in groups[name].depends_on), here[name])]
        if name in groups
        else here[name]
        for name in group.depends_on
    )


def compose(groups: Sequence[PermutationGroup], p: Mapping[str, Any], q: Mapping[str, Any]) -> Permutations:
    """The element that applies `q` first, then `p`: (p q)[row] = p[row] q[p(row)]."""
    by_name = {group.name: group for group in groups}
    left, right = checked(groups, p), checked(groups, q)
    rows = {group.name: source_rows(by_name, group, left) for group in groups}
    return Permutations({name: parts.compose(left[name], right[name], rows[name]) for name in by_name})


def followed(groups: Sequence[PermutationGroup], now: Mapping[str, Any], step: Mapping[str, Any]) -> Permutations:
    """`compose(step, now)` for a step with parts for a few groups; parts that do not change are reused."""
    by_name = {group.name: group for group in groups}
    tables, moved = dict(now), set(step)

    def part_of(group: PermutationGroup) -> Any:
        return step[group.name] if group.name in step else group.identity()

    for group in sorted(groups, key=lambda group: len(group.depends_on)):
        if group.name in moved or moved.intersection(group.depends_on):
            images = {name: part_of(by_name[name]) for name in group.depends_on if name in by_name}
            rows = source_rows(by_name, group, images)
            tables[group.name] = parts.compose(part_of(group), now[group.name], rows)
            moved.add(group.name)
    return Permutations(tables)


def invert(groups: Sequence[PermutationGroup], p: Mapping[str, Any]) -> Permutations:
    """The inverse of `p`."""
    by_name = {group.name: group for group in groups}
    tables = checked(groups, p)
    return Permutations(
        {group.name: parts.invert(tables[group.name], source_rows(by_name, group, tables)) for group in groups}
    )
