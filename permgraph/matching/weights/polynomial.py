"""A term of the relaxed objective that is of degree two or more: a site on which several free actions meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from permgraph.matching.weights.doubly_stochastic import Mixture, gather
from permgraph.matching.weights.effort import SIZES
from permgraph.matching.weights.objective import matched, slabs
from permgraph.matching.weights.sites import Axes
from permgraph.symmetry.elements.parts import Index

Soft = dict[Axes, Mixture]
Flat = dict[Axes, Index]
"""Axes -> the source of each of their flattened units."""


@dataclass(frozen=True, eq=False)
class Factor:
    """A term of degree two or more: A and B, [atoms..., rest], and the actions with the atoms each runs over."""

    a: Tensor
    b: Tensor
    actions: tuple[tuple[Axes, tuple[int, ...]], ...]

    @property
    def shares(self) -> bool:
        """Whether some atom belongs to two actions."""
        return any(len(span) > 1 for _, span in self.actions)

    def partial(self, soft: Soft, free: int) -> Tensor:
        """[units, units]: the derivative by action `free`, every other action applied to B."""
        if self.shares:
            return self._shared_partial(soft, free)
        a, b, span = self.a, self.b, self.actions[free][1]
        others = [(soft[axes], atom) for k, (axes, (atom,)) in enumerate(self.actions) if k != free]
        for mixture, atom in others:
            if mixture.is_uniform:
                a, b = a.sum(atom, keepdim=True), b.sum(atom, keepdim=True) / a.shape[atom]
        others = [other for other in others if not other[0].is_uniform]
        if not others:
            return products(a, b, span)
        for mixture, atom in others[:-1]:
            b = mixture.act(b, atom)
        mixture, atom = others[-1]
        total = a.new_zeros(a.shape[span[0]], a.shape[span[0]])
        for rows in slabs(a.shape[atom], a.numel()):
            part = a.narrow(atom, rows.start, rows.stop - rows.start)
            products(part, mixture.act(b, atom, rows), span, total)
        return total

    def _shared_partial(self, soft: Soft, free: int) -> Tensor:
        """The same where actions share atoms."""
        span, others = self.actions[free][1], [action for k, action in enumerate(self.actions) if k != free]
        mixture = soft[others[0][0]]
        if len(others) == 1 and mixture.blocks == 1 and len(mixture.weights) <= SIZES.dense_above:
            return self._block_partial(mixture, others[0][1], span)
        return self._dense_partial(soft, free)

    def _block_partial(self, mixture: Mixture, other: tuple[int, ...], span: tuple[int, ...]) -> Tensor:
        """For one other action, a mixture of few elements: each sends every index of the shared atoms to one of B's,
        so that its part is one block for each, and the barycentre's is of the sums over what it alone runs over.
        """
        shared, own = [atom for atom in span if atom in other], [atom for atom in span if atom not in other]
        alone = [atom for atom in other if atom not in span]
        order = [*shared, *own, *alone, self.a.dim() - 1]
        order += [atom for atom in range(self.a.dim()) if atom not in order]
        sizes = [self.a.shape[atom] for atom in (*shared, *own)]
        outer, inner = prod(sizes[: len(shared)]), prod(sizes[len(shared) :])
        total = self.a.new_zeros(outer, inner, outer, inner)
        if mixture.uniform:
            a, b = self.a * (mixture.uniform / mixture.units), self.b
            for atom in alone:
                a, b = a.sum(atom, keepdim=True), b.sum(atom, keepdim=True)
            products(a, b, [*shared, *own], total.view(outer * inner, -1))
        left = self.a.permute(order).reshape(outer, inner, -1)
        first = torch.arange(outer, device="cpu")
        for weight, index in zip(mixture.weights, mixture.indices, strict=True):
            right = gather(self.b, [other], [index]).permute(order).reshape(outer, inner, -1)
            total[first, :, self._shared_source(index, other, shared)] += weight * (left @ right.mT)
        places = [[*shared, *own].index(atom) for atom in span]
        whole = total.view(sizes * 2).permute(*places, *(len(sizes) + place for place in places))
        return whole.reshape(outer * inner, -1)

    def _shared_source(self, index: Index, other: tuple[int, ...], shared: Sequence[int]) -> Tensor:
        """Of each index of the shared atoms, flat, the index of B's that an element of `other` takes: one for all."""
        sizes = [self.a.shape[atom] for atom in other]
        place = tuple(slice(None) if atom in shared else 0 for atom in other)
        sources = dict(zip(other, np.unravel_index(index.reshape(sizes)[place], sizes), strict=True))
        kept = [atom for atom in other if atom in shared]
        coordinates = [sources[atom].transpose([kept.index(dim) for dim in shared]).ravel() for atom in shared]
        return torch.from_numpy(np.ravel_multi_index(coordinates, [self.a.shape[atom] for atom in shared]))

    def _dense_partial(self, soft: Soft, free: int) -> Tensor:
        """By dense matrices over atoms; an atom of B that a later action shares is kept."""
        a, value = self._sketched()
        rank = a.dim() - 1
        moving = {atom for _, span in self.actions for atom in span}
        labels = [*(rank + atom if atom in moving else atom for atom in range(rank)), 2 * rank]
        later = [k for k in range(len(self.actions)) if k != free]
        while later:
            axes, span = self.actions[later.pop(0)]
            needed = {rank + atom for k in (*later, free) for atom in self.actions[k][1]}
            used = {rank + atom for atom in span} - needed
            matrix = soft[axes].dense.to(a.dtype).reshape([a.shape[atom] for atom in span] * 2)
            out = [*(atom for atom in span if atom not in labels), *(x for x in labels if x not in used)]
            value = torch.einsum(value, labels, matrix, [*span, *(rank + atom for atom in span)], out)
            labels = out
        span = self.actions[free][1]
        units = prod(a.shape[atom] for atom in span)
        out = [*span, *(rank + atom for atom in span)]
        return torch.einsum(a, [*range(rank), 2 * rank], value, labels, out).reshape(units, units)

    def _sketched(self) -> tuple[Tensor, Tensor]:
        rest = self.a.shape[-1]
        count = SIZES.sketched_above
        if rest <= count or self.a.numel() < SIZES.sketched_from:
            return self.a, self.b
        generator = torch.Generator().manual_seed(rest)
        signs = torch.randint(0, 2, (rest, count), generator=generator, device="cpu").to(self.a.dtype)
        directions = (2 * signs - 1) / count**0.5
        return self.a @ directions, self.b @ directions

    def at(self, flat: Flat) -> float:
        """The term at an element."""
        spans = [span for _, span in self.actions]
        return matched(self.a, self.b, spans, [flat[axes] for axes, _ in self.actions])

    def value(self, soft: Soft) -> float:
        """The term at X."""
        axes = self.actions[0][0]
        return soft[axes].inner(self.partial(soft, 0))


def products(a: Tensor, b: Tensor, span: Sequence[int], total: Tensor | None = None) -> Tensor:
    """[units, units]: <A[u], B[u']> over all else, the units those of `span`'s atoms; added to `total`, if given."""
    left, right = by_units(a, span), by_units(b, span).T
    return left @ right if total is None else total.addmm_(left, right)


def by_units(side: Tensor, span: Sequence[int]) -> Tensor:
    """[atoms..., rest] -> [units, everything else], the units those of `span`'s atoms."""
    order = [*span, *(k for k in range(side.dim()) if k not in span)]
    return side.permute(order).reshape(prod(side.shape[atom] for atom in span), -1)
