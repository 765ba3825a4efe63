"""The part of activations in the objective of weight matching: terms that are linear in each family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from permgraph.assignment.problem import Term
from permgraph.matching.weights.sites import Axes, families, unit_sources
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup


@dataclass(frozen=True, eq=False)
class Prior:
    """λ times a similarity of the units that `axes` index, [units, units], A's first; no element reaches `bound`."""

    axes: Axes
    sizes: tuple[int, ...]
    matrix: Tensor
    bound: float

    def at(self, depends: Mapping[str, Axes], tables: Mapping[str, Index]) -> float:
        """The value at an element."""
        index = torch.from_numpy(unit_sources(self.axes, self.sizes, depends, tables))
        return float(self.matrix.gather(1, index[:, None]).sum(dtype=torch.float64))


def mixed(
    groups: Sequence[PermutationGroup], terms: Sequence[Term], mix: float, most: float, dtype: torch.dtype
) -> tuple[Prior, ...]:
    """The correlations as priors, so that F + Σ priors is, but for a factor, (1 - mix) F / F_max + mix C / C_max.

    F is the objective of weight matching and F_max = `most` its bound; C is the sum of matched correlations and C_max
    that of as many ones. MuDSC (arXiv 2403.01753) adds the two similarities layer by layer; here the sum is one
    objective over all groups, so that it has a maximum. Terms on which two families meet are left out: they are not
    linear in either.
    """
    family = {group.name: k for k, members in enumerate(families(groups)) for group in members}
    chosen = [term for term in terms if len({family[name] for name in term.groups if name in family}) == 1]
    counts = {id(term): term.weight * prod(term.matrix.shape[: len(term.groups)]) for term in chosen}
    factor = mix / (1 - mix) * most / max(sum(counts.values()), 1)
    found: dict[Axes, Prior] = {}
    for term in chosen:
        sizes, bound = term.matrix.shape[: len(term.groups)], factor * counts[id(term)]
        matrix = torch.from_numpy(term.matrix).reshape(prod(sizes), prod(sizes)).to(dtype) * factor
        if (before := found.get(term.groups)) is not None:
            matrix, bound = matrix.add_(before.matrix), bound + before.bound
        found[term.groups] = Prior(term.groups, sizes, matrix, bound)
    return tuple(found.values())
