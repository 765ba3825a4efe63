"""Tensors with infinities, which attention adds to its scores: the same in all models, and moved by no group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from permgraph.checkpoints.json_files import shorten
from permgraph.errors import NonFiniteError
from permgraph.symmetry.specification.spec import PermutationSpec


def require_same_masks(masks: Iterable[str], states: Sequence[Mapping[str, Tensor]], names: Sequence[str]) -> None:
    """Raise NonFiniteError if a mask differs between state dicts, which messages call `names`."""
    for mask in masks:
        first = states[0][mask]
        for state, name in zip(states[1:], names[1:], strict=True):
            if not torch.equal(first, state[mask].to(first)):
                raise NonFiniteError(
                    f"{mask}: a mask with infinities, in which {names[0]} and {name} differ; infinities have no "
                    "average. Give models with one mask."
                )


def require_unmoved_masks(masks: Iterable[str], spec: PermutationSpec) -> None:
    """Raise NonFiniteError if a group moves a mask: its entries cannot be compared."""
    moved = [name for name in masks if spec.layouts[name].groups]
    if moved:
        group = spec.layouts[moved[0]].groups[0]
        raise NonFiniteError(
            f"{shorten(moved)}: a mask with infinities, which {group} would move; its entries cannot be compared. "
            "Register it with persistent=False."
        )
