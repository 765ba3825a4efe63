"""The last digits, where B is A moved: maps that mix units are solved with all digits, then what balancing left open.

Balancing has no minimum along directions that are written and not read, or read and not written. There B is brought to
A by least squares. A map M acts on one side, M⁻ᵀ on the other, and |A - M B|² and |A' - M⁻ᵀ B'|² are 0 if M B = A and
B' = Mᵀ A'. With G = B Bᵀ and H = A' A'ᵀ the least squares of both are M G + H M = A Bᵀ + A' B'ᵀ, which is linear. A
scale with exponents e takes the step log s = Σ e <A - B, B> / Σ e² |B|².
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.ascent import Ascent
from permgraph.matching.kinds.crosses import inner_and_squares
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup

NEAR = 0.9  # of Σ |θ_A| |θ_B|: where their inner product is not above it, B is not A moved
EXACT = 1e-12  # half the relative square distance of a tensor, below which all digits are found
STORED = 1e-5  # the same, of weights that were moved and then stored in half precision
NEARER = 0.9  # of the distance: a round that leaves more of it is the last
ROUNDS = 200  # of least squares, at most
SMALL = 1e-6  # of Σ |θ_A|²: a tensor with less counts as one with as much
FAINT = 1e-12  # of the largest eigenvalue of G or H: directions below it do not move


def finish(ascent: Ascent) -> None:
    """Find all digits of an element that moves B to A; least squares are taken back where they do not reach A."""
    if not ascent.share() > NEAR:
        return
    if ascent.placed.refine():
        ascent.settled = {}
    _solve(ascent, ascent.rounds, is_open=False)
    if ascent.placed.on_demand or _distance(ascent) <= EXACT:
        return
    begun = ascent.element
    ascent.release()
    if _solve(ascent, ROUNDS, is_open=True) > STORED:
        ascent.placed.go_back(begun)


def _solve(ascent: Ascent, rounds: int, *, is_open: bool) -> float:
    """Solve what mixes units, and with `is_open` what balancing left, while rounds bring B nearer; the distance."""
    mixing = [f for f in ascent.families if any(Kind(group.kind).mixes for group in f)]
    distance = math.inf
    for _ in range(rounds):
        ascent.solve_all(mixing)
        if ascent.placed.on_demand:
            break
        for group in ascent.groups if is_open else ():
            if group.kind in ("scaled", "monomial", "invertible"):
                ascent.placed.apply({group.name: _nearest(ascent, group)})
        last, distance = distance, _distance(ascent)
        if distance <= EXACT or distance > NEARER * last:
            break
    return distance


def _distance(ascent: Ascent) -> float:
    """Half the relative square distance of B from A, of the tensor where it is largest."""
    found = [inner_and_squares(name, ascent.a, ascent.moved) for name in ascent.names if name not in ascent.compared]
    least = SMALL * sum(own for _, own, _ in found) or 1.0
    return max((max(own + other - 2 * product, 0) / max(own, least) / 2 for product, own, other in found), default=0.0)


def _nearest(ascent: Ascent, group: PermutationGroup) -> Matrix | Monomial:
    """The step of a group to A, all others held."""
    if group.kind == "invertible":
        steps = np.stack([_linear(*one) for one in zip(*_grams(ascent, group), strict=True)])
        return Matrix((np.eye(group.size) + steps).reshape(*group.table_shape, group.size))
    up = down = np.zeros(max(group.count, 1) * group.size)
    for power, a, b in _sides(ascent, group):
        up = up + power * ((a - b) * b).sum(-1).reshape(-1).cpu().numpy()
        down = down + power**2 * (b * b).sum(-1).reshape(-1).cpu().numpy()
    logs = np.divide(up, down, out=np.zeros_like(up), where=down > 0).clip(-1, 1)
    index = np.broadcast_to(np.arange(group.size), group.table_shape)
    return Monomial(index, np.exp(logs).reshape(group.table_shape))


def _grams(ascent: Ascent, group: PermutationGroup) -> tuple[Numbers, Numbers, Numbers]:
    """H, G and (A - B) Bᵀ + A' (B' - A')ᵀ, what is left for M - 1."""
    h, g, rest = np.zeros((3, max(group.count, 1), group.size, group.size))
    for power, a, b in _sides(ascent, group):
        if power > 0:
            g += (b @ b.mT).cpu().numpy()
            rest += ((a - b) @ b.mT).cpu().numpy()
        else:
            h += (a @ a.mT).cpu().numpy()
            rest += (a @ (b - a).mT).cpu().numpy()
    return h, g, rest


def _sides(ascent: Ascent, group: PermutationGroup) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The exponent and the units of A and of B, wherever a group acts on weights."""
    for place in ascent.where[group.name]:
        if place.name not in ascent.compared:
            a, b = (place.units(state[place.name]).double() for state in (ascent.a, ascent.moved))
            yield place.move.power, a, b


def _linear(h: Numbers, g: Numbers, rest: Numbers) -> Numbers:
    """D with H D + D G = R; 0 in directions that neither H nor G has."""
    (low, u), (high, v) = np.linalg.eigh(h), np.linalg.eigh(g)
    total = low[:, None] + high
    kept = total > FAINT * total.max(initial=np.finfo(float).tiny)
    found: Numbers = u @ (np.where(kept, u.T @ rest @ v, 0) / np.where(kept, total, 1)) @ v.T
    return found
