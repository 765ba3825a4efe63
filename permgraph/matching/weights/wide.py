"""Nested families too wide for a matrix of all their units, as the experts of a large model: outer units come first.

Exactly, experts i and j are worth the best assignment of the units of i to those of j; for E experts of n units that
takes all similarities, (E n)² numbers. Here outer units are matched by an estimate of that worth which does not depend
on the order of the units in them, and then the units of each matched pair exactly: E n² numbers, one pair at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from permgraph.assignment.flat import assign
from permgraph.matching.weights.effort import SIZES
from permgraph.matching.weights.sites import Axes, Site, families, units_of
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup

Sides = tuple[Tensor, Tensor]
"""A and the moved B, [outer · inner, rest]."""


def wide_groups(groups: Sequence[PermutationGroup], sites: Sequence[Site], most: int) -> frozenset[str]:
    """The groups of families of more than `most` units in which groups depend on one other, and none meets another."""
    found = set[str]()
    for family in families(groups):
        mine = {group.name for group in family}
        actions = [[action for action in site.actions if not mine.isdisjoint(action.axes)] for site in sites]
        nested = all(len(here) < 2 and all(len(action.axes) < 3 for action in here) for here in actions)
        if nested and units_of(family) > most and any(group.depends_on for group in family):
            found |= mine
    return frozenset(found)


def assigned(
    groups: Sequence[PermutationGroup], own: Mapping[Axes, Tensor], inner: Mapping[Axes, Sequence[Sides]]
) -> dict[str, Index]:
    """Tables of a wide family.

    Args:
        groups: a root and groups that depend on it, or the latter alone, where the root is held.
        own: the similarities of the root's units, by its axis.
        inner: (root, group) -> the sides of all terms of a group.

    """
    (root,) = {axes[0] for axes in inner}
    outer = next(group.depends_sizes[0] for group in groups if group.depends_on)
    perm = np.arange(outer)
    if any(group.name == root for group in groups):
        worth = own[root,].double().numpy() if (root,) in own else np.zeros((outer, outer))
        for sides in inner.values():
            worth = worth + estimated(sides, outer)
        perm = assign(worth)
    tables = {root: perm}
    for (_, name), sides in inner.items():
        tables[name] = np.stack([assign(similarity(sides, outer, i, int(j))) for i, j in enumerate(perm)])
    return {group.name: tables[group.name] if group.name in tables else group.identity() for group in groups}


def estimated(sides: Sequence[Sides], outer: int) -> np.ndarray:
    """[i, j]: about the largest <X_i, P Y_j> over permutations P, for outer unit i of A and j of B.

    X_i are the units in i as rows, with all their coordinates. C_i = X_iᵀ X_i does not depend on their order. If Y_j is
    a noisy X_i whose best match has cosine c, C_i and C_j without their means over outer units have cosine c², and
    others about 0: so |X_i| |Y_j| √max(0, cos(C_i, C_j)) is returned. C is projected to `SIZES.directions` random
    directions from both sides, which changes cosines by about 1 / directions.
    """
    found, norms = [], []
    for k in range(2):
        projected, square = _projected([pair[k] for pair in sides], outer)
        gram = (projected.mT @ projected).flatten(1)
        gram = gram - gram.mean(0)
        found.append(gram / gram.norm(dim=1, keepdim=True).clamp_min(torch.finfo(gram.dtype).tiny))
        norms.append(square.sqrt())
    cosine = (found[0] @ found[1].T).clamp(0, 1)
    worth: np.ndarray = (norms[0][:, None] * norms[1] * cosine.sqrt()).numpy()
    return worth


def _projected(parts: Sequence[Tensor], outer: int) -> tuple[Tensor, Tensor]:
    """[outer, inner, directions] of all coordinates, and [outer] of their squares, in float64."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(len(parts[0]), SIZES.directions, dtype=torch.float64, device="cpu")
    square = torch.zeros(outer, dtype=torch.float64, device="cpu")
    for part in parts:
        directions = torch.randn(
            part.shape[1], SIZES.directions, generator=generator, dtype=torch.float64, device="cpu"
        )
        total += part @ directions.to(part.dtype)
        square += part.norm(dim=1).double().square().view(outer, -1).sum(1)
    return total.view(outer, -1, SIZES.directions), square


def similarity(sides: Sequence[Sides], outer: int, i: int, j: int) -> np.ndarray:
    """[inner, inner]: of the units in outer unit i of A with those in j of B, the sum over the sides."""
    blocks = [a.view(outer, -1, a.shape[1])[i] @ b.view(outer, -1, b.shape[1])[j].T for a, b in sides]
    found: np.ndarray = torch.stack(blocks).sum(0).numpy() if len(blocks) > 1 else blocks[0].numpy()
    return found


def value(sides: Sequence[Sides], source: Index) -> float:
    """Σ over units u of <A[u], B[source(u)]>, a few rows at a time."""
    total = 0.0
    for a, b in sides:
        step = max(1, SIZES.slab // max(prod(a.shape[1:]), 1))
        for first in range(0, len(a), step):
            rows = b[torch.from_numpy(source[first : first + step])]
            total += float((a[first : first + step] * rows).sum(1).sum(dtype=torch.float64))
    return total
