"""Recognises two fine-tunes of one base by how close their unmoved weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from math import prod

import numpy as np
from torch import Tensor

from permgraph.checkpoints.lazy_state import slabs_of
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.comparison.chance import moving, p_value
from permgraph.uses.comparison.similarity import Sums

CLOSE = 0.5
"""A cosine that weights of separate trainings never have, and those of fine-tunes of one base do."""
DRAWS = 199
RARE = 0.01
MOST = 24
"""The most matrices that are compared."""
PART = 0.1
"""The least share of the numbers in matrices that are each so close, for a part of two models to be of one base."""

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Related:
    """The cosine of the unmoved weights, and how often a random order of units leaves them as close (p-value).

    `share`: of the numbers, those in matrices with a cosine above a half; below 1 if some layers have another origin.
    """

    cosine: float
    p_value: float
    share: float = 1.0

    def __str__(self) -> str:
        if self.cosine < CLOSE:
            return (
                f"as they stand, a part of A and B are relatives: {self.share:.0%} of the weights that were compared "
                f"are in matrices with a cosine above {CLOSE}, which random orders of units do not reach (p = "
                f"{self.p_value:.2g}). If these layers come from one base, their units match already, and those of the "
                "other layers are matched between them (docs/relatives.md)"
            )
        return (
            f"as they stand, A and B are relatives: the cosine of their weights is {self.cosine:.3f}, which random "
            f"orders of units do not reach (p = {self.p_value:.2g}). Fine-tunes of one base need no alignment, and "
            "what it moves is noise: merge them as they stand, or by task vectors (docs/relatives.md)"
        )


def related(spec: PermutationSpec, a: State, b: State, seed: int = 0) -> Related | None:
    """The evidence that the unmoved A and B, or some of their layers, are relatives: cosines above a half.

    They are those of matrices minus their means. None if they are no relatives, or if no matrix moves. Up to 24
    matrices are read.
    """
    matrices = [name for name in moving(spec, a) if len(spec.shapes[name]) > 1]
    generator = np.random.default_rng(seed)
    names = [matrices[k] for k in sorted(generator.permutation(len(matrices))[:MOST])]
    found = [(prod(spec.shapes[name]), *_compared(a, b, name)) for name in names]
    total, size = sum((sums for _, sums, _ in found), Sums()), sum(size for size, _, _ in found)
    close = sum(size for size, sums, _ in found if sums.cosine >= CLOSE)
    if not names or (total.cosine < CLOSE and close < PART * size):
        return None
    pairs = zip(names, found, strict=True)
    equal = sum(one[0] for name, one in pairs if not one[2] and _moves_both_ways(spec, name))
    same = equal >= PART * size or not any(differ for _, _, differ in found)
    p = 1 / (1 + DRAWS) if same else p_value(spec, a, b, seed, draws=DRAWS)
    return Related(total.cosine, p, close / size) if p <= RARE else None


def _moves_both_ways(spec: PermutationSpec, name: str) -> bool:
    """Whether groups move two axes of a tensor: no table of constants, such as sines, that all models share."""
    return len({dim for group in spec.groups for tensor, dim in group.axes if tensor == name}) > 1


def _compared(a: State, b: State, name: str) -> tuple[Sums, bool]:
    """The sums of two matrices without their means, and whether the matrices differ."""
    total, sum_a, sum_b, count, differ = Sums(), 0.0, 0.0, 0, False
    for one, other in zip(slabs_of(a, name), slabs_of(b, name), strict=True):
        total += Sums.of(one, other)
        sum_a, sum_b = sum_a + float(one.double().sum()), sum_b + float(other.double().sum())
        count, differ = count + one.numel(), differ or bool((one != other).any())
    means = Sums(sum_a**2, sum_b**2, sum_a * sum_b)
    return Sums(*(x - y / max(count, 1) for x, y in zip(astuple(total), astuple(means), strict=True))), differ
