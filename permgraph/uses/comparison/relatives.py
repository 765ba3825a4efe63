"""Two fine-tunes of one base, known by how close their weights are before anything is moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from permgraph.symmetry.spec import PermutationSpec
from permgraph.uses.comparison.chance import moving, p_value
from permgraph.uses.comparison.similarity import Sums

CLOSE = 0.5
"""A cosine that weights of separate trainings never have, and those of fine-tunes of one base do."""
DRAWS = 199
RARE = 0.01
MOST = 24
"""Matrices that are looked at."""

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Related:
    """The cosine of the weights that move, unmoved, and how often a random order of units leaves them as close."""

    cosine: float
    p_value: float

    def __str__(self) -> str:
        return (
            f"as they stand, A and B are relatives: the cosine of their weights is {self.cosine:.3f}, which random "
            f"orders of units do not reach (p = {self.p_value:.2g}). Fine-tunes of one base need no alignment, and "
            "what it moves is noise: merge them as they stand, or by task vectors (docs/relatives.md)"
        )


def related(spec: PermutationSpec, a: State, b: State, seed: int = 0) -> Related | None:
    """Whether A and B are relatives as they stand: their cosine, over matrices without their means, is above a half.

    None where they are not, or where no matrix moves. Up to 24 matrices are read.
    """
    matrices = [name for name in moving(spec, a) if len(spec.shapes[name]) > 1]
    generator = np.random.default_rng(seed)
    names = [matrices[k] for k in sorted(generator.permutation(len(matrices))[:MOST])]
    pairs = {name: (a[name], b[name]) for name in names}
    cosine = sum((Sums.of(*(_centred(tensor) for tensor in pair)) for pair in pairs.values()), Sums()).cosine
    if not names or cosine < CLOSE:
        return None
    differ = any(bool((one != other).any()) for one, other in pairs.values())
    p = p_value(spec, a, b, seed, draws=DRAWS) if differ else 1 / (1 + DRAWS)
    return Related(cosine, p) if p <= RARE else None


def _centred(tensor: Tensor) -> Tensor:
    wide = tensor.detach().double()
    return wide - wide.mean()
