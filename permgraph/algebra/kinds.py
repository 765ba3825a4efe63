"""The lattice of changes of basis that an operation can allow on an axis of n units.

    identity < permutation < signed < orthogonal < invertible
               permutation < scaled < monomial < invertible,  signed < monomial
               permutation < centred < orthogonal

A kind names a group of invertible n × n matrices; one kind is below another when its group is a subgroup.
"""

from __future__ import annotations

from enum import Enum
from functools import cache


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


_COVERS = {
    Kind.IDENTITY: (),
    Kind.PERMUTATION: (Kind.IDENTITY,),
    Kind.SIGNED: (Kind.PERMUTATION,),
    Kind.SCALED: (Kind.PERMUTATION,),
    Kind.MONOMIAL: (Kind.SIGNED, Kind.SCALED),
    Kind.CENTRED: (Kind.PERMUTATION,),
    Kind.ORTHOGONAL: (Kind.SIGNED, Kind.CENTRED),
    Kind.INVERTIBLE: (Kind.MONOMIAL, Kind.ORTHOGONAL),
}


@cache
def _below(kind: Kind) -> frozenset[Kind]:
    return frozenset({kind}.union(*(_below(lower) for lower in _COVERS[kind])))
