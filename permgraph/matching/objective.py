"""The objective of weight matching, F(π) = Σ <θ_A, πθ_B>, and its extension to doubly stochastic matrices.

The relaxed variable of an action is a doubly stochastic matrix over its flattened units, one for each tuple of axes
(heads and dims: [H·k, H·k]); elements of the group are its vertices, and the best vertex for a linear function of all
matrices is what `assignment.solve` finds. F extends as F(X) = Σ over sites Σ A[u, v, …, r] X1[u, u'] X2[v, v'] …
B[u', v', …, r]: linear in each action, so along a line a polynomial whose degree is the most actions on one site.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from permgraph.layout import Index
from permgraph.matching.assignment import Solution, Term, solve
from permgraph.matching.places_new import Action, Axes, Site, sites, unit_sources
from permgraph.permutations import PermutationGroup
from permgraph.spec import PermutationSpec

Soft = dict[Axes, Tensor]
"""Axes -> a matrix [units, units], A's units first."""

DOUBLE_BELOW = 2**20  # models with fewer moved elements are matched in float64


@dataclass(frozen=True, eq=False)
class Pairing:
    """The groups that may move, and the sites of A and B where they act. `constant`: what no element changes."""

    groups: tuple[PermutationGroup, ...]
    sites: tuple[Site, ...]
    state_a: Mapping[str, Tensor]
    state_b: Mapping[str, Tensor]
    dtype: torch.dtype

    @classmethod
    def of(
        cls,
        spec: PermutationSpec,
        groups: Sequence[PermutationGroup],
        state_a: Mapping[str, Tensor],
        state_b: Mapping[str, Tensor],
    ) -> Pairing:
        """All sites of `groups`, in float64 for small models and float32 for large ones."""
        found = tuple(sites(spec, groups))
        small = sum(site.cell.size for site in found) < DOUBLE_BELOW
        return cls(tuple(groups), found, state_a, state_b, torch.float64 if small else torch.float32)

    @property
    def depends(self) -> dict[str, Axes]:
        """Group -> what selects its permutation."""
        return {group.name: group.depends_on for group in self.groups}

    @property
    def pinned(self) -> dict[str, int]:
        """Sizes of everything that some group depends on."""
        return {n: s for g in self.groups for n, s in zip(g.depends_on, g.depends_sizes, strict=True)}

    def a(self, site: Site) -> Tensor:
        """A's side of a site, [atoms..., rest]."""
        return site.tensor(self.state_a[site.name].detach().to("cpu", self.dtype))

    def b(self, site: Site) -> Tensor:
        """B's side of a site, as it stands."""
        return site.tensor(self.state_b[site.name].detach().to("cpu", self.dtype))

    def moved(self, site: Site, tables: Mapping[str, Index], keep: Collection[int] = ()) -> Tensor:
        """B's side with every action applied, except those numbered in `keep`."""
        held = [k for k in range(len(site.actions)) if k not in keep]
        return _gather(self.b(site), site, held, self.depends, tables)

    def value(self, tables: Mapping[str, Index], where: Sequence[Site] | None = None) -> float:
        """F at an element of the group, over all sites or some."""
        return sum(dot(self.a(site), self.moved(site, tables)) for site in (self.sites if where is None else where))

    def bound(self, where: Sequence[Site] | None = None) -> float:
        """Σ over sites of |A| |B|: by Cauchy and Schwarz no element reaches more."""
        return sum(
            float(self.a(site).norm().double() * self.b(site).norm().double())
            for site in (self.sites if where is None else where)
        )


def dot(a: Tensor, b: Tensor) -> float:
    """<a, b>, summed in blocks so that float32 keeps its digits."""
    return float((a * b).flatten(1).sum(1).double().sum()) if a.dim() > 1 else float((a * b).double().sum())


def _gather(
    tensor: Tensor, site: Site, actions: Sequence[int], depends: Mapping[str, Axes], tables: Mapping[str, Index]
) -> Tensor:
    """new[atoms] = old[source(atoms)] for the given actions."""
    index: dict[int, Index] = {}
    for k in actions:
        action, span = site.actions[k], site.spans[k]
        flat = unit_sources(action.axes, site.sizes(action), depends, tables)
        shape = [tensor.shape[atom] for atom in span]
        grid = [1] * len(site.atoms)
        for atom, size in zip(span, shape, strict=True):
            grid[atom] = size
        for atom, source in zip(span, np.unravel_index(flat, shape), strict=True):
            # Atoms are in the action's order, not always in the site's: bring the sources into the site's.
            order = np.argsort(span)
            index[atom] = source.reshape(shape).transpose(order).reshape(grid)
    if all(source.size == tensor.shape[atom] for atom, source in index.items()):
        for atom, source in index.items():
            tensor = tensor.index_select(atom, torch.from_numpy(np.ascontiguousarray(source.ravel())))
        return tensor
    rank = len(site.atoms)
    full = [index.get(k, np.arange(tensor.shape[k]).reshape([-1 if k == j else 1 for j in range(rank)])) for k in range(rank)]
    return tensor[tuple(torch.from_numpy(np.ascontiguousarray(x)) for x in full)]


@dataclass(frozen=True, eq=False)
class Factor:
    """A term of degree two or more: A and B, and the relaxed actions with the atoms each runs over."""

    a: Tensor
    b: Tensor
    actions: tuple[tuple[Axes, tuple[int, ...]], ...]

    def partial(self, soft: Mapping[Axes, Tensor], free: int) -> Tensor:
        """[units, units]: the derivative by action `free`, every other action applied to B."""
        rank = self.a.dim() - 1
        value, labels = self.b, [*range(rank, 2 * rank), 2 * rank]
        later = [k for k in range(len(self.actions)) if k != free]
        while later:
            k = later.pop(0)
            axes, span = self.actions[k]
            needed = {rank + atom for j in (*later, free) for atom in self.actions[j][1]}
            shape = [self.a.shape[atom] for atom in span]
            mine = [*span, *(rank + atom for atom in span)]
            out = [x for x in labels if x - rank not in span or x < rank or x in needed]
            out = [*(atom for atom in span if atom not in out), *out]
            value = torch.einsum(value, labels, soft[axes].reshape(shape * 2), mine, out)
            labels = out
        span = self.actions[free][1]
        out = [*span, *(rank + atom for atom in span)]
        units = prod(self.a.shape[atom] for atom in span)
        return torch.einsum(self.a, [*range(rank), 2 * rank], value, labels, out).reshape(units, units)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """F over some families with the rest held at an element (or averaged): linear terms, and factors of higher degree."""

    groups: tuple[PermutationGroup, ...]
    sizes: dict[Axes, tuple[int, ...]]
    linear: dict[Axes, Tensor]
    factors: list[Factor]
    pinned: dict[str, int]
    dtype: torch.dtype = field(default=torch.float64)

    @property
    def degree(self) -> int:
        """Of F along a line."""
        return max((len(factor.actions) for factor in self.factors), default=1)

    def gradient(self, soft: Soft) -> tuple[float, Soft]:
        """F(X), and the derivative by each matrix."""
        found = {axes: matrix.clone() for axes, matrix in self.linear.items()}
        value = sum(dot(matrix, soft[axes]) for axes, matrix in self.linear.items())
        for factor in self.factors:
            for k, (axes, _) in enumerate(factor.actions):
                part = factor.partial(soft, k)
                value += dot(part, soft[axes]) if k == 0 else 0.0
                found[axes] = found[axes].add_(part) if axes in found else part
        return value, found

    def value(self, soft: Soft) -> float:
        """F(X)."""
        total = sum(dot(matrix, soft[axes]) for axes, matrix in self.linear.items())
        return total + sum(dot(f.partial(soft, 0), soft[f.actions[0][0]]) for f in self.factors)

    def terms(self, matrices: Mapping[Axes, Tensor]) -> list[Term]:
        """Matrices [units, units] as terms of an assignment."""
        return [Term(axes, matrix.reshape(self.sizes[axes] * 2).numpy()) for axes, matrix in matrices.items()]

    def best_vertex(self, matrices: Mapping[Axes, Tensor], start: Mapping[str, Index] | None = None) -> Solution:
        """The element that maximises Σ <matrix, X> (exact where the assignment nests)."""
        return solve(self.groups, self.terms(matrices), start=start, pinned=self.pinned)

    def barycentre(self) -> Soft:
        """The mean of all elements: uniform over each axis that moves, the identity over pinned ones."""
        moving = {group.name for group in self.groups}
        found = {}
        for axes, sizes in self.sizes.items():
            matrix = torch.ones(1, 1, dtype=self.dtype)
            for name, size in zip(axes, sizes, strict=True):
                one = torch.full((size, size), 1 / size, dtype=self.dtype)
                matrix = torch.kron(matrix, one if name in moving else torch.eye(size, dtype=self.dtype))
            found[axes] = matrix
        return found

    def vertex(self, tables: Mapping[str, Index]) -> Soft:
        """An element as permutation matrices."""
        depends = {group.name: group.depends_on for group in self.groups}
        found = {}
        for axes, sizes in self.sizes.items():
            flat = torch.from_numpy(unit_sources(axes, sizes, depends, tables))
            matrix = torch.zeros(len(flat), len(flat), dtype=self.dtype)
            found[axes] = matrix.scatter_(1, flat[:, None], 1.0)
        return found


def relax(
    pairing: Pairing,
    names: Collection[str],
    tables: Mapping[str, Index],
    averaged: Collection[str] = (),
    where: Sequence[Site] | None = None,
) -> Relaxation:
    """F as a function of the groups in `names`; groups in `averaged` at their barycentre, the others at `tables`."""
    sizes: dict[Axes, tuple[int, ...]] = {}
    linear: dict[Axes, Tensor] = {}
    factors = []
    for site in pairing.sites if where is None else where:
        free = [k for k, action in enumerate(site.actions) if any(name in names for name in action.axes)]
        if not free:
            continue
        mean = [k for k, x in enumerate(site.actions) if k not in free and any(name in averaged for name in x.axes)]
        a, b = pairing.a(site), pairing.moved(site, tables, [*free, *mean])
        a, b = _average(a, b, site, mean)
        for k in free:
            sizes[site.actions[k].axes] = site.sizes(site.actions[k])
        if len(free) == 1:
            axes, part = _linear(a, b, site, free[0])
            linear[axes] = linear[axes].add_(part) if axes in linear else part
        else:
            factors.append(Factor(a, b, tuple((site.actions[k].axes, site.spans[k]) for k in free)))
    groups = tuple(group for group in pairing.groups if group.name in names)
    return Relaxation(groups, sizes, linear, factors, pairing.pinned, pairing.dtype)


def _average(a: Tensor, b: Tensor, site: Site, actions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Both sides summed over the units of the given actions: what a uniform matrix between them leaves, J/n."""
    for atom in sorted({atom for k in actions for atom in site.spans[k]}):
        size = a.shape[atom]
        a, b = a.sum(atom, keepdim=True), b.sum(atom, keepdim=True) / size
    return a, b


def _linear(a: Tensor, b: Tensor, site: Site, free: int) -> tuple[Axes, Tensor]:
    """[units, units]: <A[u], B[u']> over all else."""
    span = site.spans[free]
    order = [*span, *(k for k in range(a.dim()) if k not in span)]
    units = prod(a.shape[atom] for atom in span)
    return site.actions[free].axes, a.permute(order).reshape(units, -1) @ b.permute(order).reshape(units, -1).T


__all__ = ["Action", "Factor", "Pairing", "Relaxation", "Soft", "relax"]
