"""The objective over doubly stochastic matrices.

The relaxed variable of an action is a doubly stochastic matrix over its flattened units, one for each tuple of axes
(heads and dims: [H·k, H·k]); elements of the group are its vertices, and the vertex that is best for a linear function
of all matrices is what `assignment.solve` finds. F extends as F(X) = Σ over sites Σ A[u, v, …, r] X1[u, u'] X2[v, v'] …
B[u', v', …, r]: linear in each action, so along a line a polynomial whose degree is the most actions on one site.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from permgraph.assignment.solve import Term, solve
from permgraph.matching.weights.doubly_stochastic import Mixture, inner_vertex
from permgraph.matching.weights.effort import SIZES
from permgraph.matching.weights.freed_memory import return_freed
from permgraph.matching.weights.objective import Pairing, norm
from permgraph.matching.weights.polynomial import Factor, Flat, Soft, by_units, products
from permgraph.matching.weights.similarities import Place, Similarities
from permgraph.matching.weights.sites import Axes, Site, unit_sources
from permgraph.matching.weights.wide import Sides, assigned, value
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup


@dataclass(frozen=True, eq=False)
class Relaxation:
    """F over some families, the rest held or averaged: linear terms, and factors of higher degree.

    `sides`: linear terms of a wide family, as the two tensors whose products they are. `bound`: Σ over sites of
    |A| |B|, which by Cauchy and Schwarz F does not exceed.
    """

    groups: tuple[PermutationGroup, ...]
    sizes: dict[Axes, tuple[int, ...]]
    linear: dict[Axes, Tensor]
    sides: dict[Axes, list[Sides]]
    factors: tuple[Factor, ...]
    pinned: dict[str, int]
    bound: float

    @property
    def degree(self) -> int:
        """Of F along a line."""
        return max((len(factor.actions) for factor in self.factors), default=1)

    def gradient(self, soft: Soft) -> tuple[float, dict[Axes, Tensor]]:
        """F(X), and its derivative by each matrix."""
        found = {axes: matrix.clone() for axes, matrix in self.linear.items()}
        value = sum(soft[axes].inner(matrix) for axes, matrix in self.linear.items())
        for factor in self.factors:
            for k, (axes, _) in enumerate(factor.actions):
                part = factor.partial(soft, k)
                value += soft[axes].inner(part) if k == 0 else 0.0
                found[axes] = found[axes].add_(part) if axes in found else part
                if factor.a.numel() >= SIZES.freed_above:
                    return_freed()
        return value, found

    def value(self, soft: Soft) -> float:
        """F(X)."""
        linear = sum(soft[axes].inner(matrix) for axes, matrix in self.linear.items())
        return linear + sum(factor.value(soft) for factor in self.factors)

    def at(self, flat: Flat) -> float:
        """F at an element."""
        linear = sum(inner_vertex(matrix, flat[axes]) for axes, matrix in self.linear.items())
        linear += sum(value(sides, flat[axes]) for axes, sides in self.sides.items())
        return linear + sum(factor.at(flat) for factor in self.factors)

    def shares(self, flat: Flat) -> dict[str, float]:
        """Group -> the part of F at an element from the sites where the group acts; nested groups overlap."""
        parts = [(set(axes), inner_vertex(matrix, flat[axes])) for axes, matrix in self.linear.items()]
        parts += [(set(axes), value(sides, flat[axes])) for axes, sides in self.sides.items()]
        parts += [({name for axes, _ in f.actions for name in axes}, f.at(flat)) for f in self.factors]
        return {g.name: sum(value for names, value in parts if g.name in names) for g in self.groups}

    @property
    def ceiling(self) -> float:
        """What no element exceeds: every unit of A with the unit of B that suits it best, where these are known."""
        if self.factors or self.sides:
            return self.bound
        return sum(float(matrix.amax(1).sum(dtype=torch.float64)) for matrix in self.linear.values())

    def flat(self, tables: Mapping[str, Index]) -> Flat:
        """The sources of all flattened units under tables of the groups."""
        depends = {group.name: group.depends_on for group in self.groups}
        return {axes: unit_sources(axes, sizes, depends, tables) for axes, sizes in self.sizes.items()}

    def best(self, matrices: Mapping[Axes, Tensor], start: Mapping[str, Index] | None = None) -> Mapping[str, Index]:
        """The element that maximises Σ <matrix, X>; a proven maximum where the assignment nests.

        For a wide family, about the best for the matrices and its sides.
        """
        if self.sides:
            return assigned(self.groups, matrices, self.sides)
        terms = [Term(axes, matrix.reshape(self.sizes[axes] * 2).numpy()) for axes, matrix in matrices.items()]
        return solve(self.groups, terms, start=start, pinned=self.pinned)

    def barycentre(self) -> Soft:
        """The mean of all elements."""
        moving = {group.name for group in self.groups}
        found = {}
        for axes, sizes in self.sizes.items():
            blocks = prod(size for name, size in zip(axes, sizes, strict=True) if name not in moving)
            found[axes] = Mixture(prod(sizes), blocks, 1.0)
        return found

    def toward(self, soft: Soft, flat: Flat, step: float) -> Soft:
        """(1 - step) · X + step · P for every matrix."""
        return {axes: mixture.toward(flat[axes], step) for axes, mixture in soft.items()}


def relax(
    pairing: Pairing,
    names: Collection[str],
    tables: Mapping[str, Index],
    *,
    averaged: Collection[str] = (),
    where: Sequence[Site] | None = None,
    kept: Similarities | None = None,
) -> Relaxation:
    """F as a function of the groups in `names`; groups in `averaged` at their barycentre, the others at `tables`.

    `kept`: the linear terms of earlier calls, to start from where nothing is averaged. Priors of averaged groups are
    constant and left out.
    """
    terms = _Terms(pairing, names, tables, averaged)
    for site in pairing.sites if where is None else where:
        terms.add(site, kept)
    if kept is not None:
        terms.linear = {axes: kept.at(axes, here, tables) for axes, here in terms.places.items()}
    for prior in pairing.priors:
        if any(name in names for name in prior.axes):
            terms.add_linear(prior.axes, prior.matrix)
            terms.sizes[prior.axes] = prior.sizes
            terms.bound += prior.bound
    groups = tuple(group for group in pairing.groups if group.name in names)
    return Relaxation(groups, terms.sizes, terms.linear, terms.sides, tuple(terms.factors), pairing.pinned, terms.bound)


@dataclass(eq=False)
class _Terms:
    """The terms of a relaxation, collected site by site; `places`: where kept linear terms come from."""

    pairing: Pairing
    names: Collection[str]
    tables: Mapping[str, Index]
    averaged: Collection[str]
    sizes: dict[Axes, tuple[int, ...]] = field(default_factory=dict)
    linear: dict[Axes, Tensor] = field(default_factory=dict)
    sides: dict[Axes, list[Sides]] = field(default_factory=dict)
    places: dict[Axes, list[Place]] = field(default_factory=dict)
    factors: list[Factor] = field(default_factory=list)
    bound: float = 0.0

    def add(self, site: Site, kept: Similarities | None) -> None:
        """Add the term of a site: a linear one for one free action, a factor for several."""
        free = [k for k, action in enumerate(site.actions) if any(name in self.names for name in action.axes)]
        self.sizes |= {site.actions[k].axes: site.sizes(site.actions[k]) for k in free}
        if kept is not None and len(free) == 1 and not self._is_wide(site, free):
            self.places.setdefault(site.actions[free[0]].axes, []).append((site, free[0]))
            self.bound += self.pairing.bound(site)
        elif free:
            self._add_product(site, free)

    def _is_wide(self, site: Site, free: Sequence[int]) -> bool:
        axes = site.actions[free[0]].axes
        return len(axes) > 1 and not self.pairing.wide.isdisjoint(axes)

    def _add_product(self, site: Site, free: Sequence[int]) -> None:
        mean = [
            k
            for k, action in enumerate(site.actions)
            if k not in free and any(name in self.averaged for name in action.axes)
        ]
        whole = {atom for k in free for atom in site.spans[k]}
        flattened = {atom for k in mean for atom in site.spans[k]} - whole
        moved = self.pairing.moved(site, self.tables, [*free, *mean])
        a, b = _average(self.pairing.a(site), moved, flattened)
        self.bound += norm(a) * norm(b) if mean else self.pairing.bound(site)
        if len(free) == 1 and self._is_wide(site, free):
            sides = by_units(a, site.spans[free[0]]), by_units(b, site.spans[free[0]])
            self.sides.setdefault(site.actions[free[0]].axes, []).append(sides)
        elif len(free) == 1:
            self.add_linear(site.actions[free[0]].axes, products(a, b, site.spans[free[0]]), in_place=True)
        else:
            self.factors.append(Factor(a, b, tuple((site.actions[k].axes, site.spans[k]) for k in free)))

    def add_linear(self, axes: Axes, part: Tensor, *, in_place: bool = False) -> None:
        """Add to the linear term of these axes; `in_place` where the sum so far belongs to this relaxation."""
        sum_so_far = self.linear.get(axes)
        if sum_so_far is None:
            self.linear[axes] = part
        else:
            self.linear[axes] = sum_so_far.add_(part) if in_place else sum_so_far + part


def _average(a: Tensor, b: Tensor, atoms: Collection[int]) -> tuple[Tensor, Tensor]:
    """Both sides summed over the atoms of averaged actions: what the uniform matrix J/n between them leaves."""
    for atom in sorted(atoms):
        size = a.shape[atom]
        a, b = a.sum(atom, keepdim=True), b.sum(atom, keepdim=True) / size
    return a, b
