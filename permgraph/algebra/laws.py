"""How a change of basis of one index passes through an operation.

A rule gives a variable of its relation a `Law`. Without one, an operation allows only the same permutation on each of
its tensors, as every function that treats all indices alike does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from permgraph.algebra.kinds import Kind


@dataclass(frozen=True)
class Law:
    """result = Σ over `terms` of the product of the operands that the term names by position.

    Let M be the change of basis of a variable. If one operand of a term has the variable, the result gets the same M.
    If two operands have it and the result does not, they are contracted: their changes are contragredient, M and M⁻ᵀ.
    If more tensors have it, M is monomial, and scales multiply. A term without the variable is constant along it: M
    must fix the vector of ones. `terms=()` means that all tensors have the same elements, in any direction.

    Attributes:
        terms: positions of operands, one tuple for each product.
        inverse: operands that divide.
        within: bounds on the change of basis of single operands or results, by position.
        affine: a constant that is not 0 is added.
        even: the signs of an operand do not reach the result.
        power: the result is |x|^power with the sign of x, if `even` is false and signs may change at all.
        unsized: operands of which only the sign reaches the result, not the scale.
        whole: the result depends on statistics over other indices, so all segments of these change alike.
        summed: the result is only read by a sum along the variable: the term is a contraction.
        loose: requires nothing; the law of the product that is summed covers it.

    """

    terms: tuple[tuple[int, ...], ...] = ()
    inverse: frozenset[int] = frozenset()
    within: Mapping[int, Kind] = field(default_factory=dict)
    affine: bool = False
    even: bool = False
    power: Fraction = Fraction(1)
    unsized: frozenset[int] = frozenset()
    whole: bool = False
    summed: bool = False
    loose: bool = False


SAME = Law()
PRODUCT = Law(((0, 1),))
LINEAR = Law(((0,),))
WITH_BIAS = Law(((0, 1), (2,)))
ODD = Law(((0,),), within={0: Kind.SIGNED})
EVEN = Law(((0,),), within={0: Kind.SIGNED}, even=True)
HOMOGENEOUS = Law(((0,),), within={0: Kind.SCALED})
ABSOLUTE = Law(((0,),), within={0: Kind.MONOMIAL}, even=True)
SIGN = Law(((0,),), within={0: Kind.MONOMIAL}, unsized=frozenset({0}))
POSITION = Law(((0,),), within={0: Kind.SCALED}, unsized=frozenset({0}), whole=True)
SQUARE = Law(((0, 0),))
CENTRED = Law(((0,),), within={0: Kind.CENTRED})
NORM_OF = Law(((0, 0),))
DISTANCE = Law(((0, 1), (0, 0), (1, 1)))
LOOSE = Law(loose=True)


def to_the(exponent: float) -> Law:
    """x^exponent: whole exponents keep or drop the sign, others take positive numbers."""
    power = Fraction(exponent)
    whole = power.denominator == 1
    bound = Kind.MONOMIAL if whole else Kind.SCALED
    return Law(((0,),), within={0: bound}, power=power, even=whole and power.numerator % 2 == 0)


def sum_of(count: int, *, affine: bool = False) -> Law:
    """The sum of `count` operands, and of a constant if `affine`."""
    return Law(tuple((k,) for k in range(count)), affine=affine)


def product_of(count: int, divisors: frozenset[int] = frozenset()) -> Law:
    """The product of `count` operands, of which some divide."""
    return Law((tuple(range(count)),), divisors)


def normalised(kind: Kind, weight: bool, bias: bool) -> Law:
    """A norm of operand 0 along the variable, times a weight, plus a bias: the operands that follow, where given."""
    scaled = (0, 1) if weight else (0,)
    return Law((scaled, (1 + weight,)) if bias else (scaled,), within={0: kind})
