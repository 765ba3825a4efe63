"""The directions of a rotation that similarities determine: where few places are known, the others say nothing yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers, complement_of_ones
from permgraph.matching.kinds.terms import Cross, of_one
from permgraph.matching.weights.sites import Site
from permgraph.symmetry.elements.parts import Matrix
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

FAINT = 1e-5
"""Of the largest singular value of a similarity: below it a direction is not determined."""


def projections(
    groups: Sequence[PermutationGroup], terms: Sequence[Cross], found: Mapping[str, Any]
) -> dict[str, Matrix]:
    """P for each group that mixes units and whose similarity S to B lacks rank: P projects A's units to the range of S.

    <A, P B> = <P A, B> leaves out what the best rotation of B, whose other directions are arbitrary, says by chance.
    """
    projected = dict[str, Matrix]()
    for group in groups:
        if Kind(group.kind).mixes:
            total = of_one(group, groups, terms, found)
            if (onto := _onto_range(total, is_centred=group.kind == "centred")) is not None:
                projected[group.name] = Matrix(onto, orthogonal=True)
    return projected


def clear(
    spec: PermutationSpec, site: Site, state: Mapping[str, Tensor], faint: Mapping[str, Matrix]
) -> Mapping[str, Tensor]:
    """A state dict whose tensor at a site is projected for each group in `faint`."""
    here = {name: part for name, part in faint.items() if name in site.names}
    return {site.name: spec.apply_one(here, site.name, state[site.name])} if here else state


def _onto_range(total: Numbers, *, is_centred: bool) -> Numbers | None:
    """U Uᵀ of the larger singular values of each matrix of a stack, None if all are; the vector of ones is known."""
    size = total.shape[-1]
    basis = complement_of_ones(size) if is_centred else np.eye(size)
    left, values, _ = np.linalg.svd(basis.T @ total @ basis)
    kept = values > FAINT * values.max(-1, keepdims=True, initial=np.finfo(float).tiny)
    if kept.all():
        return None
    left = basis @ left
    onto: Numbers = (left * kept[..., None, :]) @ np.swapaxes(left, -1, -2)
    return onto + 1 / size if is_centred else onto
