"""Recognises two fine-tunes of one base by how close their unmoved weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

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

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Related:
    """The cosine of the unmoved weights, and how often a random order of units leaves them as close (p-value)."""

    cosine: float
    p_value: float

    def __str__(self) -> str:
        return (
            f"as they stand, A and B are relatives: the cosine of their weights is {self.cosine:.3f}, which random "
            f"orders of units do not reach (p = {self.p_value:.2g}). Fine-tunes of one base need no alignment, and "
            "what it moves is noise: merge them as they stand, or by task vectors (docs/relatives.md)"
        )


def related(spec: PermutationSpec, a: State, b: State, seed: int = 0) -> Related | None:
    """The evidence that the unmoved A and B are relatives: a cosine, over matrices minus their means, above a half.

    None if they are not, or if no matrix moves. Up to 24 matrices are read.
    """
    matrices = [name for name in moving(spec, a) if len(spec.shapes[name]) > 1]
    generator = np.random.default_rng(seed)
    names = [matrices[k] for k in sorted(generator.permutation(len(matrices))[:MOST])]
    cosine, differ = Sums(), False
    for name in names:
        here, apart = _compared(a, b, name)
        cosine, differ = cosine + here, differ or apart
    if not names or cosine.cosine < CLOSE:
        return None
    p = p_value(spec, a, b, seed, draws=DRAWS) if differ else 1 / (1 + DRAWS)
    return Related(cosine.cosine, p) if p <= RARE else None


def _compared(a: State, b: State, name: str) -> tuple[Sums, bool]:
    """The sums of two matrices without their means, and whether the matrices differ."""
    total, sum_a, sum_b, count, differ = Sums(), 0.0, 0.0, 0, False
    for one, other in zip(slabs_of(a, name), slabs_of(b, name), strict=True):
        total += Sums.of(one, other)
        sum_a, sum_b = sum_a + float(one.double().sum()), sum_b + float(other.double().sum())
        count, differ = count + one.numel(), differ or bool((one != other).any())
    means = Sums(sum_a**2, sum_b**2, sum_a * sum_b)
    return Sums(*(x - y / max(count, 1) for x, y in zip(astuple(total), astuple(means), strict=True))), differ
