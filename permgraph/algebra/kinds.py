"""The lattice of changes of basis that an operation can allow on an axis of n units.

    identity < permutation < signed < orthogonal < invertible
               permutation < scaled < monomial < invertible,  signed < monomial
               permutation < centred < orthogonal

A kind names a group of invertible n × n matrices; one kind is below another when its group is a subgroup.

What is particular to a kind is its row of `FACTS`, with the matrices that `algebra/matrices.py` draws and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np

from permgraph.algebra import matrices
from permgraph.algebra.matrices import Numbers


class Kind(Enum):
    """A group of matrices; `kind.within(other)` is the order of the lattice.

    PERMUTATION has one 1 in each row and column; SIGNED has 1 or -1 there, SCALED a positive number, MONOMIAL any
    number but 0. ORTHOGONAL has O Oᵀ = 1, CENTRED also O 1 = 1 with the vector of ones. INVERTIBLE is all of GL(n).
    """

    IDENTITY = "identity"
    PERMUTATION = "permutation"
    SIGNED = "signed"
    SCALED = "scaled"
    MONOMIAL = "monomial"
    CENTRED = "centred"
    ORTHOGONAL = "orthogonal"
    INVERTIBLE = "invertible"

    def within(self, other: Kind) -> bool:
        """Whether every matrix of this kind is of the other."""
        return self in _below(other)

    def meet(self, other: Kind) -> Kind:
        """The largest kind within both."""
        return max(_below(self) & _below(other), key=lambda kind: len(_below(kind)))

    @property
    def mixes(self) -> bool:
        """Whether its matrices form sums of units."""
        return Kind.CENTRED.within(self)

    @property
    def has_signs(self) -> bool:
        """Whether a unit alone may change its sign."""
        return Kind.SIGNED.within(self)

    @property
    def has_scales(self) -> bool:
        """Whether a unit alone may be scaled by any positive number."""
        return Kind.SCALED.within(self)

    @property
    def is_orthogonal(self) -> bool:
        """Whether the inverse of each of its matrices is its transpose."""
        return self.within(Kind.ORTHOGONAL)

    @property
    def facts(self) -> Facts:
        """What is particular to the kind."""
        return FACTS[self]


@dataclass(frozen=True)
class Facts:
    """What is particular to a kind.

    Attributes:
        covers: the kinds just below it.
        symbol: the group of n units in symbols.
        dimension: of the group of n units, 0 where it is discrete.
        change: one of its elements, in words.
        alone: one of its elements where there is a single unit.
        allowed: what the group allows, in words.
        bound: what an operation does that allows no larger kind.
        draw: random matrices [..., n, n] of a generator and a shape [..., n]; None if the kind permutes units.
        fault: why finite matrices are not of the kind, "" if they are.

    """

    covers: tuple[Kind, ...]
    symbol: str = ""
    dimension: Callable[[int], int] = lambda n: 0
    change: str = ""
    alone: str = "factor"
    allowed: str = ""
    bound: str = ""
    draw: Callable[[np.random.Generator, Sequence[int]], Numbers] | None = None
    fault: Callable[[Numbers], str] | None = None


FACTS = {
    Kind.IDENTITY: Facts(()),
    Kind.PERMUTATION: Facts(
        (Kind.IDENTITY,),
        symbol="Sym({n})",
        change="permutation",
        allowed="permutations",
        bound="treats its units alike and no more",
    ),
    Kind.SIGNED: Facts(
        (Kind.PERMUTATION,),
        symbol="± Sym({n})",
        change="permutation with signs",
        alone="sign",
        allowed="signs",
        bound="passes on signs and no more",
    ),
    Kind.SCALED: Facts(
        (Kind.PERMUTATION,),
        symbol="R⁺ wr Sym({n})",
        dimension=lambda n: n,
        change="permutation with positive scales",
        alone="positive factor",
        allowed="positive scales",
        bound="passes on positive scales and no more",
    ),
    Kind.MONOMIAL: Facts(
        (Kind.SIGNED, Kind.SCALED),
        symbol="R* wr Sym({n})",
        dimension=lambda n: n,
        change="permutation with signs and scales",
        allowed="signs and scales",
        bound="passes on signs and scales and no more",
    ),
    Kind.CENTRED: Facts(
        (Kind.PERMUTATION,),
        symbol="O({n}) with O 1 = 1",
        dimension=lambda n: (n - 1) * (n - 2) // 2,
        change="rotation",
        allowed="rotations that keep the vector of ones",
        bound="takes its mean, which maps of the vector of ones to itself keep",
        draw=matrices.draw_centred,
        fault=matrices.fault_of_centred,
    ),
    Kind.ORTHOGONAL: Facts(
        (Kind.SIGNED, Kind.CENTRED),
        symbol="O({n})",
        dimension=lambda n: n * (n - 1) // 2,
        change="rotation",
        alone="sign",
        allowed="rotations",
        bound="takes its norm, which rotations keep",
        draw=matrices.draw_orthogonal,
        fault=matrices.fault_of_orthogonal,
    ),
    Kind.INVERTIBLE: Facts(
        (Kind.MONOMIAL, Kind.ORTHOGONAL),
        symbol="GL({n})",
        dimension=lambda n: n * n,
        change="invertible map",
        allowed="invertible maps",
        draw=matrices.draw_invertible,
        fault=matrices.fault_of_invertible,
    ),
}


@cache
def _below(kind: Kind) -> frozenset[Kind]:
    return frozenset({kind}.union(*(_below(lower) for lower in kind.facts.covers)))
