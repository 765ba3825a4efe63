"""What each group gained by a match in all kinds, at activations and in weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.algebra.matrices import Numbers
from permgraph.checkpoints.lazy_state import slabs_of
from permgraph.matching.gains import CORRELATION, WEIGHTS, Gain
from permgraph.matching.kinds.crosses import dot
from permgraph.matching.kinds.places import TOGETHER, Place, places
from permgraph.matching.kinds.terms import Cross, diagonal
from permgraph.symmetry.elements.parts import Matrix, Monomial, index_of
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass(frozen=True, eq=False)
class Compared:
    """A term at two elements: its value unmoved, and unit by unit when moved, but for signs, which come later.

    Attributes:
        term: where the units are, without its matrix.
        unmoved: Σ over units of their similarity at the same place.
        matched: [units...]: the similarity of each unit of A with what takes its place, an axis a name.

    """

    term: Cross
    unmoved: float
    matched: Numbers

    @property
    def most(self) -> float:
        """The value for models that compute the same."""
        return self.term.weight * self.matched.size

    @property
    def signs(self) -> tuple[str, ...]:
        """The groups whose signs reach the units, the further ones too."""
        further = [name for sign in (self.term.further or {}).values() for name in sign.split(TOGETHER)]
        return (*(name for name in self.term.names if name in self.term.odd), *further)

    def moved(self, spec: PermutationSpec, element: Mapping[str, Any]) -> Numbers:
        """[units...]: the similarity of each unit when moved, with the signs of an element and the further ones."""
        axes = {name: k for k, name in enumerate(self.term.names)}
        value: Any = self.matched
        for name in self.signs:
            if isinstance(part := element[name], Monomial):
                where = [axes[key] for key in (*spec[name].depends_on, name) if key in axes]
                sign = np.sign(part.scale) if name in axes else np.sign(part.scale)[..., 0]
                whole: Any = list(axes.values())
                value = np.einsum(value, whole, sign, where, whole)
        return np.asarray(value)


def compared(groups: Sequence[PermutationGroup], terms: Sequence[Cross], found: Mapping[str, Any]) -> list[Compared]:
    """The terms at what was found for their groups."""
    keys = {group.name: group.depends_on for group in groups}
    return [
        Compared(replace(term, matrix=np.empty(0)), float(diagonal(term).sum()), _matched(term, found, keys))
        for term in terms
    ]


def _matched(term: Cross, found: Mapping[str, Any], keys: Mapping[str, tuple[str, ...]]) -> Numbers:
    """[units...]: Σ over b of part[keys, a, b] matrix[a, b], without signs; permutations only look up one b each."""
    axes, count = {name: k for k, name in enumerate(term.names)}, len(term.names)
    grid = np.meshgrid(*map(np.arange, term.matrix.shape[:count]), indexing="ij", sparse=True)
    mixing = [name for name in term.names if isinstance(found.get(name), Matrix)]
    last = [count + axes[name] for name in mixing]
    looked_up: list[Any] = list(grid)
    for name in term.names:
        if name not in mixing:
            part, rows = found.get(name), [grid[axes[key]] for key in keys.get(name, ())]
            looked_up.append(grid[axes[name]] if part is None else index_of(part)[(*rows, grid[axes[name]])])
    value: Any = np.moveaxis(term.matrix, last, range(-len(last), 0))[tuple(looked_up)]
    left = list(range(count + len(mixing)))
    for name in reversed(mixing):
        where = [axes[key] for key in (*keys[name], name)]
        value = np.einsum(value, left, np.asarray(found[name].matrix), [*where, left[-1]], left[:-1])
        left.pop()
    return np.asarray(value)


def activation_gains(spec: PermutationSpec, terms: Sequence[Compared], element: Mapping[str, Any]) -> dict[str, Gain]:
    """The mean similarity of matched units over the terms of each group, by their weights."""
    sums: dict[str, Numbers] = {}
    for one in terms:
        figures = np.array([one.unmoved, float(one.moved(spec, element).sum()), one.most])
        sums |= {name: sums.get(name, 0) + figures for name in one.term.names}
    found = {name: figures / figures[2] for name, figures in sums.items() if figures[2]}
    return {name: Gain(float(before), float(after), 1.0, CORRELATION) for name, (before, after, _) in found.items()}


def weight_gains(
    spec: PermutationSpec,
    groups: Sequence[Any],
    reference: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    bounds: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Gain]:
    """Σ <θ_A, θ_B> over the tensors of a group, unmoved and moved, and Σ |θ_A| |θ_B|; each tensor is read once.

    |θ_B| is the larger of unmoved and moved, which differ where scales were learned. `bounds` has those of tensors for
    which they are known otherwise.
    """
    by_tensor: dict[str, dict[Any, list[Place]]] = {}
    for here in places(spec, [group.name for group in groups]).values():
        for place in here:
            cells = by_tensor.setdefault(place.name, {})
            cells.setdefault((place.cell.offsets, place.cell.leaves), []).append(place)
    states = reference, before, after
    found = {group.name: np.zeros(3) for group in groups}
    for name, cells in by_tensor.items():
        whole = len(cells) == 1 and all(here[0].cell.is_all_of(spec.shapes[name]) for here in cells.values())
        slabs = zip(*(slabs_of(state, name) for state in states), strict=True)
        sums = {key: np.zeros(5) for key in cells}
        for sides in slabs if whole else [[state[name] for state in states]]:
            for key, here in cells.items():
                a, b, moved = sides if whole else [here[0].cell.block(side) for side in sides]
                sums[key] += dot(a, b), dot(a, moved), dot(a, a), dot(b, b), dot(moved, moved)
        for key, here in cells.items():
            for place in here:
                most = bounds.get(name, (sums[key][2] * sums[key][3:].max()) ** 0.5)
                found[place.move.group] += *sums[key][:2], most
    return {name: Gain(float(a), float(b), float(most), WEIGHTS) for name, (a, b, most) in found.items()}
