"""A term of the relaxed objective that is of degree two or more: a site on which several free actions meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from permgraph.matching.objective import matched, slabs
from permgraph.matching.places import Axes
from permgraph.matching.soft import Mixture
from permgraph.symmetry.layout import Index

Soft = dict[Axes, Mixture]
Flat = dict[Axes, Index]
"""Axes -> the source of each of their flattened units."""

SKETCHED_ABOVE = 16
"""On sites of a million elements or more where actions share leaves, the axis that nothing moves is projected to this
many random directions; the products would otherwise cost (number of blocks) times as much as on other sites."""


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
        """The same with dense matrices over atoms; an atom of B that a later action shares is kept."""
        a, value = self._sketched()
        rank = a.dim() - 1
        labels = [*range(rank, 2 * rank), 2 * rank]
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
        if rest <= SKETCHED_ABOVE or self.a.numel() < 2**20:
            return self.a, self.b
        generator = torch.Generator().manual_seed(rest)
        signs = torch.randint(0, 2, (rest, SKETCHED_ABOVE), generator=generator).to(self.a.dtype)
        directions = (2 * signs - 1) / SKETCHED_ABOVE**0.5
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
    order = [*span, *(k for k in range(a.dim()) if k not in span)]
    units = prod(a.shape[atom] for atom in span)
    left, right = a.permute(order).reshape(units, -1), b.permute(order).reshape(units, -1).T
    return left @ right if total is None else total.addmm_(left, right)
