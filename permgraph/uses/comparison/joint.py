"""The last step for all maps, scales and rotations at once: least squares, linear in the maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.learning.coordinates import rotation
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.parts import Matrix, Monomial, problem
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations, followed
from permgraph.symmetry.specification.spec import PermutationSpec

State = Mapping[str, Tensor]

ROUNDS = 10
MOST = 1_500
"""Coordinates up to which the equations are solved; the time grows with their cube."""
LARGEST = 20_000_000
"""Derivatives of one weight, its elements times the coordinates that change them, that are held at once."""
CUT = 1e-13
"""Directions along which the squared change of the weights is smaller, relative to the largest, are not searched."""
AT_ONCE = 4_000_000
"""Derivatives that are computed at once."""


@dataclass(frozen=True)
class _Weight:
    """The equation g B = A h of one weight, for the coordinates of the groups that act on it."""

    groups: Sequence[PermutationGroup]
    left: Layout
    right: Layout
    a: Tensor
    b: Tensor

    def residual(self, x: Tensor) -> Tensor:
        """g B - A h at these coordinates, flat."""
        parts = _parts(self.groups, x)
        moved = self.left.apply(parts, self.b)
        return (moved - self.right.apply({name: _other_side(part) for name, part in parts.items()}, self.a)).reshape(-1)

    @property
    def is_linear(self) -> bool:
        """Whether no two groups are on one side, and none is a rotation or has a square here."""
        sides = [cell.moves for layout in (self.left, self.right) for cell in layout.cells]
        own = {group.name: group for group in self.groups}
        counted = [[move for move in moves if move.group in own and move.power] for moves in sides]
        return all(
            len(moves) <= 1 and not any(_turns(own[move.group]) or abs(move.power) > 1 for move in moves)
            for moves in counted
        )

    @cached_property
    def slope(self) -> Tensor:
        """[elements, coordinates], the derivative of the residual at 0."""
        zero = self.b.new_zeros(sum(map(_size, self.groups)))
        directions = torch.eye(len(zero), dtype=zero.dtype, device="cpu")

        def along(direction: Tensor) -> Tensor:
            found: Tensor = torch.func.jvp(self.residual, (zero,), (direction,))[1]
            return found

        found: Tensor = torch.vmap(along, chunk_size=max(1, AT_ONCE // self.b.numel()))(directions)
        return found.T


def jointly(spec: PermutationSpec, a: State, b: State, element: Permutations) -> Iterator[Permutations]:
    """Elements that bring B closer and closer to A, from the equations g B = A h of all weights.

    A weight on whose axes g and the inverse of h act is g B h⁻¹. Its equation with A is linear in g and h, so that one
    solution gives maps at any distance; scales and rotations, and weights with two groups on one side, follow in
    Gauss-Newton steps. One group after another would take thousands of sweeps where a product of weights has a lower
    rank. Ends where a part has no inverse; gives nothing for models with too many coordinates.
    """
    groups = [group for group in spec.groups if group.dimension]
    if not groups or not _is_small(spec, groups):
        return
    for turn in range(ROUNDS):
        weights = list(_weights(spec, groups, a, b, element))
        chosen = [weight for weight in weights if turn or weight.is_linear]
        step = _parts(groups, _step(groups, chosen))
        element = followed(spec.groups, element, {name: _numbers(part) for name, part in step.items()})
        if any(problem(group.kind, group.table_shape, element[group.name]) for group in groups):
            return
        if turn:
            yield element


def _is_small(spec: PermutationSpec, groups: Sequence[PermutationGroup]) -> bool:
    sizes = {group.name: _size(group) for group in groups}
    derivatives = (
        prod(layout.shape) * sum(sizes.get(name, 0) for name in layout.groups) for layout in spec.layouts.values()
    )
    return sum(sizes.values()) <= MOST and max(derivatives, default=0) <= LARGEST


def _step(groups: Sequence[PermutationGroup], weights: Sequence[_Weight]) -> Tensor:
    """The shortest step that minimises the sum of squares of all residuals; 0 without a weight."""
    ends = dict(zip((group.name for group in groups), np.cumsum(list(map(_size, groups))).tolist(), strict=True))
    total = sum(map(_size, groups))
    normal, right = (
        torch.zeros(total, total, dtype=torch.float64, device="cpu"),
        torch.zeros(total, dtype=torch.float64, device="cpu"),
    )
    for weight in weights:
        at = torch.cat(
            [torch.arange(ends[group.name] - _size(group), ends[group.name], device="cpu") for group in weight.groups]
        )
        normal[at[:, None], at] += weight.slope.T @ weight.slope
        right[at] -= weight.slope.T @ weight.residual(torch.zeros(len(at), dtype=torch.float64, device="cpu"))
    values, vectors = torch.linalg.eigh(normal)
    inverse = torch.where(values > CUT * values.amax(), 1 / values, 0)
    step: Tensor = vectors @ (inverse * (vectors.T @ right))
    return step


def _weights(
    spec: PermutationSpec, groups: Sequence[PermutationGroup], a: State, b: State, element: Permutations
) -> Iterator[_Weight]:
    for name in spec.parameters:
        here = [group for group in groups if name in spec.layouts and group.name in spec.layouts[name].groups]
        if here and name not in spec.ties.aliases:
            left, right = _sides(spec.layouts[name], {group.name for group in here if not _turns(group)})
            moved = spec.apply_one(element, name, b[name].double().cpu())
            yield _Weight(here, left, right, a[name].double().cpu(), moved)


def _sides(layout: Layout, free: set[str]) -> tuple[Layout, Layout]:
    """The layout with the moves that stay at B, and with those that go to A: inverses of maps and scales."""
    left, right = [], []
    for cell in layout.cells:
        goes = [move.group in free and move.power < 0 for move in cell.moves]
        left.append(replace(cell, moves=tuple(m for m, other in zip(cell.moves, goes, strict=True) if not other)))
        right.append(replace(cell, moves=tuple(m for m, other in zip(cell.moves, goes, strict=True) if other)))
    return replace(layout, cells=tuple(left)), replace(layout, cells=tuple(right))


def _turns(group: PermutationGroup) -> bool:
    return group.kind in ("orthogonal", "centred")


def _size(group: PermutationGroup) -> int:
    n = group.size
    return group.count * (n if not Kind(group.kind).mixes else n * (n - 1) // 2 if _turns(group) else n * n)


def _parts(groups: Sequence[PermutationGroup], x: Tensor) -> dict[str, Any]:
    """The part of each group at x: 1 + x for maps and scales, a Cayley transform for rotations."""
    pieces = torch.split(x, [_size(group) for group in groups])
    return {group.name: _part(group, piece) for group, piece in zip(groups, pieces, strict=True)}


def _part(group: PermutationGroup, x: Tensor) -> Any:
    if not Kind(group.kind).mixes:
        return Monomial(np.broadcast_to(np.arange(group.size), group.table_shape), 1 + x.reshape(group.table_shape))
    n, rows = group.size, group.table_shape[:-1]
    if _turns(group):
        above = torch.triu_indices(n, n, 1, device="cpu")
        skew = x.new_zeros(*rows, n * n).index_add(-1, above[0] * n + above[1], x.reshape(*rows, -1))
        return Matrix(rotation(2 * skew.reshape(*rows, n, n), centred=group.kind == "centred"), orthogonal=True)
    return Matrix(torch.eye(n, dtype=x.dtype, device="cpu") + x.reshape(*rows, n, n))


def _other_side(part: Any) -> Any:
    """The part whose negative powers are the positive ones of `part`."""
    if isinstance(part, Monomial):
        return Monomial(part.index, 1 / part.scale)
    return Matrix(part.matrix, inverse=part.matrix)


def _numbers(part: Any) -> Any:
    if isinstance(part, Monomial):
        return Monomial(part.index, part.scale.numpy())
    return Matrix(part.matrix.numpy(), part.orthogonal)
