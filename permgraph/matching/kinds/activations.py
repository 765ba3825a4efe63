"""Activations as tensors that the groups move, so that they are matched as weights are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import prod, sqrt

import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.comparing.frames import Point
from permgraph.comparing.moments import CrossMoments
from permgraph.matching.correlation import chosen_points
from permgraph.matching.kinds.places import further_sign
from permgraph.matching.kinds.terms import Cross
from permgraph.matching.weights.sites import families
from permgraph.symmetry.elements.cells import Cell, Leaf, Move
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Activations:
    """Tensors X of A and Y of B with <X, g Y> = Σ g_ij C_ij, C the similarity of units at each point.

    Attributes:
        layouts: name of a tensor -> how the groups move it.
        a: the X.
        b: the Y.
        bounds: name -> units times weight: the inner product of models that compute the same, which none exceeds.

    """

    layouts: Mapping[str, Layout]
    a: State
    b: State
    bounds: Mapping[str, float]

    @property
    def bound(self) -> float:
        """The sum over all tensors."""
        return sum(self.bounds.values())

    def added(
        self, spec: PermutationSpec, a: State, b: State, factor: float
    ) -> tuple[PermutationSpec, dict[str, Tensor], dict[str, Tensor]]:
        """A specification and two state dicts with these tensors, their inner products multiplied by `factor`."""
        shapes = {name: layout.shape for name, layout in self.layouts.items()}
        wider = replace(
            spec,
            layouts={**spec.layouts, **self.layouts},
            parameters=(*spec.parameters, *self.layouts),
            shapes={**spec.shapes, **shapes},
        )
        x, y = ({name: sqrt(factor) * tensor for name, tensor in side.items()} for side in (self.a, self.b))
        return wider, {**a, **x}, {**b, **y}


def activations(spec: PermutationSpec, points: Sequence[Point], moments: dict[int, CrossMoments]) -> Activations:
    """X = C and Y = 1 for each point that counts: units are on dim 0, and nothing moves on dim 1."""
    layouts, a, b, bounds = dict[str, Layout](), dict[str, Tensor](), dict[str, Tensor](), dict[str, float]()
    for k, matrix in similarities(spec, points, moments):
        name = f"activation {points[k].node} {k}"
        layouts[name], a[name], b[name] = (
            _layout(points[k]),
            torch.from_numpy(matrix).float(),
            torch.eye(len(matrix), dtype=torch.float32, device="cpu"),
        )
        bounds[name] = points[k].weight * len(matrix)
    return Activations(layouts, a, b, bounds)


def telling(groups: Sequence[PermutationGroup], points: Sequence[Point]) -> Sequence[Point]:
    """The points that tell which units correspond; all points where none does.

    Where maps act inside units, as inside heads, activations do not tell: some map brings any head near any other.
    """
    inside = set[str]()
    for family in families(groups):
        names = {group.name for group in family}
        if any(Kind(group.kind).mixes and names.intersection(group.depends_on) for group in family):
            inside |= names
    return [point for point in points if inside.isdisjoint(point.groups)] or points


def _layout(point: Point) -> Layout:
    """[units, units]: how the groups of a point move its units on dim 0."""
    place, size, leaves = {units: (k,) for k, units in enumerate(point.units)}, prod(point.sizes), list[Leaf]()
    for own in point.sizes:
        leaves.append(Leaf(0, own, (leaves[-1].stride if leaves else size) // own))
    moves = tuple(
        Move(move.group, place.get(move.leaves, ()), tuple(place[key] for key in move.keys), move.power)
        for move in point.cell.moves
        if place.keys() >= {*move.keys, *([move.leaves] if move.leaves else [])}
    )
    return Layout((size, size), (Cell((0, 0), (*leaves, Leaf(1, size, 1)), moves),))


def crosses(
    spec: PermutationSpec, points: Sequence[Point], moments: dict[int, CrossMoments], signs: Set[str]
) -> Iterator[Cross]:
    """The same similarities as terms for `permgraph.matching.kinds.family.solve`, one for each point that counts.

    `signs`: the further ones that may change.
    """
    for k, matrix in similarities(spec, points, moments):
        point = points[k]
        moves = {m.group: m for m in point.cell.moves if m.leaves and m.group in point.groups}
        odd = frozenset(name for name, move in moves.items() if move.power % 2)
        further = {name: sign for name, move in moves.items() if (sign := further_sign(point.cell, move, signs))}
        yield Cross(point.groups, matrix.reshape(point.sizes * 2), odd, further, point.weight)


def similarities(
    spec: PermutationSpec, points: Sequence[Point], moments: dict[int, CrossMoments]
) -> Iterator[tuple[int, Numbers]]:
    """Number of each point that counts -> [n, n]: the correlation of its units, or where they mix their overlap.

    The moments are used up. Raises CalibrationError where there are too few frames, or constant activations.
    """
    mixing = {group.name for group in spec.groups if Kind(group.kind).mixes}
    for k in chosen_points(points, moments):
        moment = moments.pop(k)
        moment.require_signal()
        mixed = mixing.intersection(points[k].groups)
        matrix = moment.overlap(last=True) if mixed else moment.correlation(last=True)
        if not mixed:
            moment.require_distinct(matrix)
        matrix *= points[k].weight
        yield k, matrix
