"""Bases: occurrences that change by one matrix M, or by M and M⁻ᵀ, the two *sides* of a basis.

Links form classes of occurrences inside a factor, the bases, each with a bound in the lattice of kinds. Products relate
bases of one factor: these may only have signs and scales, which multiply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.kinds import Kind
from permgraph.algebra.relations import Source

Equation = dict[Occurrence, int]
"""Σ exponent · log scale = 0 over bases, each named by its representative."""


@dataclass(frozen=True)
class Limit:
    """What bounds a basis: the remaining kind, the operation, and the reason."""

    kind: Kind
    source: Source | None
    what: str

    def __str__(self) -> str:
        return f"{self.source}: {self.what}" if self.source is not None else self.what


@dataclass
class Bases:
    """Union-find with sides over occurrences, a bound for each class, and the equations between classes."""

    largest: Kind
    _parent: dict[Occurrence, tuple[Occurrence, int]] = field(default_factory=dict)
    _bound: dict[Occurrence, Kind] = field(default_factory=dict)
    _why: dict[Occurrence, list[Limit]] = field(default_factory=dict)
    _equations: dict[int, list[Equation]] = field(default_factory=lambda: {0: [], 2: []})

    def __contains__(self, occurrence: Occurrence) -> bool:
        """Whether some law mentions the occurrence."""
        return occurrence in self._parent

    def find(self, occurrence: Occurrence) -> tuple[Occurrence, int]:
        """The representative of the basis, and the side of the occurrence: 1 if it changes alike, -1 for M⁻ᵀ."""
        parent = self._parent
        path, root, side = [], occurrence, 1
        if root not in parent:
            parent[root], self._bound[root] = (root, 1), self.largest
        while parent[root][0] != root:
            path.append(root)
            root = parent[root][0]
        for node in reversed(path):
            side *= parent[node][1]
            parent[node] = root, side
        return root, side

    def bound(self, occurrence: Occurrence) -> Kind:
        """The largest kind that all operations on the basis allow."""
        return self._bound[self.find(occurrence)[0]]

    def limits(self, occurrence: Occurrence) -> list[Limit]:
        """What bounds the basis of an occurrence: without any of these, the bound might be larger."""
        bound, found = self.largest, list[Limit]()
        for limit in self._why.get(self.find(occurrence)[0], ()):
            if (lower := bound.meet(limit.kind)) is not bound:
                bound = lower
                found.append(limit)
        return found

    def limit(self, occurrence: Occurrence, kind: Kind, what: str, source: Source | None = None) -> None:
        """Bound the basis of an occurrence; `what` is the reason, about the operation `source`."""
        root, _ = self.find(occurrence)
        bound = self._bound[root].meet(kind)
        if bound is not self._bound[root]:
            self._bound[root] = bound
            self._why.setdefault(root, []).append(Limit(kind, source, what))

    def link(self, a: Occurrence, b: Occurrence, side: int, source: Source | None = None) -> None:
        """Let `a` and `b` change by one matrix, on one side (1) or opposite sides (-1); both make it orthogonal."""
        (root_a, side_a), (root_b, side_b) = self.find(a), self.find(b)
        if root_a == root_b:
            if side_a * side_b != side:
                self.limit(a, Kind.ORTHOGONAL, "contracts it with itself", source)
            return
        first, second = sorted((root_a, root_b))
        self._parent[second] = first, side * side_a * side_b
        self._bound[first] = self._bound[first].meet(self._bound.pop(second))
        if second in self._why:
            self._why.setdefault(first, []).extend(self._why.pop(second))

    def equate(
        self,
        factors: Sequence[tuple[Occurrence, int]],
        result: Occurrence | None = None,
        *,
        power: int = 1,
        moduli: Iterable[int] = (0, 2),
        source: Source | None = None,
    ) -> None:
        """Let Π scale^exponent = scale(result)^power for scales (modulus 0), signs (2), or both; 1 without a result.

        Their bases are monomial.
        """
        found: Equation = defaultdict(int)
        for occurrence, exponent in [*factors, *([(result, -power)] if result is not None else [])]:
            others = dict.fromkeys(o.tensor for o, _ in factors if o.tensor != occurrence.tensor)
            what = f"multiplies it by {', '.join(others)}" if others else "multiplies it by itself"
            self.limit(occurrence, Kind.MONOMIAL, what, source)
            found[occurrence] += exponent
        for modulus in moduli:
            self._equations[modulus].append(dict(found))

    @property
    def occurrences(self) -> Iterable[Occurrence]:
        """All occurrences that laws mention, in first-seen order."""
        return self._parent

    def equations(self, modulus: int) -> list[Equation]:
        """All equations of scales (0) or signs (2) between representatives, each once, with its result last."""
        found: dict[tuple[tuple[Occurrence, int], ...], Equation] = {}
        for equation in self._equations[modulus]:
            here: Equation = defaultdict(int)
            for occurrence, exponent in equation.items():
                root, side = self.find(occurrence)
                here[root] += side * exponent
            found.setdefault(tuple(here.items()), dict(here))
        return list(found.values())
