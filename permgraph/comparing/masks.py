"""Tensors with infinities, which attention adds to its scores: at the same places in all models, and never moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from permgraph.errors import NonFiniteError
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.wording import few

State = Mapping[str, Tensor]
ELEMENTS = 8


def require_same_masks(masks: Iterable[str], states: Sequence[State], names: Sequence[str]) -> None:
    """Raise NonFiniteError if a mask has infinities in other places in some of the state dicts, called `names`."""
    for mask in masks:
        first = states[0][mask]
        for state, name in zip(states[1:], names[1:], strict=True):
            if not _same_infinities(first, state[mask].to(first)):
                raise NonFiniteError(
                    f"{mask}: a mask with infinities, in which {names[0]} and {name} differ; infinities have no "
                    "average. Give models with one mask."
                )


def require_unmoved_masks(masks: Iterable[str], spec: PermutationSpec, state: State) -> None:
    """Raise NonFiniteError if a group moves the infinities of a mask, which cannot be compared.

    A bias by position has them at the same places for all heads, and heads may move.
    """
    moved = [name for name in masks if spec.layouts[name].groups and _moves_infinities(spec, name, state[name])]
    if moved:
        group = spec.layouts[moved[0]].groups[0]
        raise NonFiniteError(
            f"{few(moved)}: a mask with infinities, which {group} would move; its entries cannot be compared. "
            "Register it with persistent=False."
        )


def finite(state: State, masks: Iterable[str]) -> dict[str, Tensor]:
    """The state dict with 0 in place of the infinities of its masks."""
    return dict(state) | {name: finite_part(state[name]) for name in masks}


def finite_part(tensor: Tensor) -> Tensor:
    """The tensor with 0 in place of its infinities."""
    return tensor.masked_fill(tensor.isinf(), 0)


def _moves_infinities(spec: PermutationSpec, name: str, mask: Tensor) -> bool:
    """Whether elements that together move every unit change where a mask has infinities."""
    elements = spec.moving(0, ELEMENTS)
    return not all(_same_infinities(mask, spec.apply_one(element.tables, name, mask)) for element in elements)


def _same_infinities(one: Tensor, other: Tensor) -> bool:
    return all(torch.equal(is_infinite(one), is_infinite(other)) for is_infinite in (torch.isposinf, torch.isneginf))
