"""The independent signs and scales of the units of one factor: integer solutions of the equations between its bases.

A solution gives each basis an exponent: one number s for each unit, and the basis changes by s^exponent. Positive
scales solve the equations over the rationals, signs solve them modulo 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any

from permgraph.algebra.bases import Equation
from permgraph.algebra.cells import Occurrence
from permgraph.algebra.kinds import Kind

Exponents = Mapping[Occurrence, int]
Row = dict[Any, Fraction]


@dataclass(frozen=True)
class Freedom:
    """One number for each unit: its kind (signed, scaled or monomial), and basis -> exponent."""

    kind: Kind
    exponents: Exponents


def freedoms(
    bounds: Mapping[Occurrence, Kind], equations: Mapping[int, Sequence[Equation]], stored: Collection[Occurrence]
) -> list[Freedom]:
    """A basis of all signs and scales that bases with these bounds allow, distinguished by their effect on `stored`
    ones.

    `equations` are those of scales (0) and of signs (2).

    A sign and a scale with the same exponents are one monomial freedom. The result of a product is expressed by its
    operands, so that the freedom of a stream does not change the weights of its norms.
    """
    scaled = [basis for basis, kind in bounds.items() if kind.has_scales]
    signed = [basis for basis, kind in bounds.items() if kind.has_signs]
    scales = _apart(_solutions(scaled, equations[0], modulus=0), stored, modulus=0)
    signs = _apart(_solutions(signed, equations[2], modulus=2), stored, modulus=2)
    found = []
    for exponents in scales:
        odd = {basis: 1 for basis, exponent in exponents.items() if exponent % 2}
        if odd in signs:
            signs.remove(odd)
            found.append(Freedom(Kind.MONOMIAL, exponents))
        else:
            found.append(Freedom(Kind.SCALED, exponents))
    return [*found, *(Freedom(Kind.SIGNED, exponents) for exponents in signs)]


def _apart(solutions: Iterable[Exponents], stored: Collection[Occurrence], *, modulus: int) -> list[Exponents]:
    rows: dict[Any, Row] = {}
    return [
        exponents
        for exponents in solutions
        if _extended(rows, {basis: n for basis, n in exponents.items() if basis in stored}, modulus)
    ]


def _solutions(unknowns: Sequence[Occurrence], equations: Iterable[Equation], *, modulus: int) -> list[Exponents]:
    """A basis of the integer solutions, or of those modulo 2; bases that are not unknowns have the exponent 0."""
    free = dict.fromkeys(unknowns)
    rows: dict[Occurrence, Row] = {}
    for equation in equations:
        row = _reduced({basis: Fraction(n) for basis, n in equation.items() if basis in free}, rows, modulus)
        if not row:
            continue
        pivot = next((basis for basis in reversed(list(equation)) if basis in row), next(iter(row)))
        row = {basis: _mod(n / row[pivot], modulus) for basis, n in row.items()}
        for other, before in rows.items():
            if pivot in before:
                rows[other] = _combined(before, row, -before[pivot], modulus)
        rows[pivot] = row
    return [_solution(basis, rows, modulus) for basis in unknowns if basis not in rows]


def _reduced(row: Row, rows: Mapping[Any, Row], modulus: int) -> Row:
    """The row minus multiples of others, so that it has none of their pivots."""
    for pivot in [key for key in row if key in rows]:
        if pivot in row:
            row = _combined(row, rows[pivot], -row[pivot], modulus)
    return {key: _mod(n, modulus) for key, n in row.items() if _mod(n, modulus)}


def _combined(a: Row, b: Row, factor: Fraction, modulus: int) -> Row:
    zero = Fraction(0)
    total = {key: _mod(a.get(key, zero) + factor * b.get(key, zero), modulus) for key in {**a, **b}}
    return {key: n for key, n in total.items() if n}


def _mod(number: Fraction, modulus: int) -> Fraction:
    return Fraction(number.numerator % 2) if modulus and number.denominator % 2 else number


def _solution(basis: Occurrence, rows: Mapping[Occurrence, Row], modulus: int) -> Exponents:
    """The solution in which one free unknown is 1 and the others are 0, in smallest integers."""
    values = {basis: Fraction(1)}
    values |= {pivot: _mod(-row[basis], modulus) for pivot, row in rows.items() if basis in row}
    scale = lcm(*(n.denominator for n in values.values()))
    whole = {key: int(n * scale) for key, n in values.items() if n}
    shared = gcd(*whole.values())
    return {key: n // shared for key, n in whole.items()}


def independent(vectors: Iterable[Mapping[Any, int]], candidate: Mapping[Any, int], *, modulus: int) -> bool:
    """Whether a vector of integers is no combination of others, over the rationals or modulo 2."""
    rows: dict[Any, Row] = {}
    for vector in vectors:
        _extended(rows, vector, modulus)
    return _extended(rows, candidate, modulus)


def _extended(rows: dict[Any, Row], vector: Mapping[Any, int], modulus: int) -> bool:
    """Add a vector to reduced rows, one for each pivot; false where it is a combination of them."""
    left = _reduced({key: Fraction(n) for key, n in vector.items()}, rows, modulus)
    if not left:
        return False
    pivot = next(iter(left))
    left = {key: _mod(n / left[pivot], modulus) for key, n in left.items()}
    for other, row in rows.items():
        if pivot in row:
            rows[other] = _combined(row, left, -row[pivot], modulus)
    rows[pivot] = left
    return True
