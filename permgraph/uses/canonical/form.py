"""Computes the canonical form of weights: an order, the smallest norm, frames, signs, and the order again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.parts import Index, Monomial
from permgraph.symmetry.elements.permutations import Permutations, followed, source_rows
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.canonical.colours import EQUAL, Colours
from permgraph.uses.canonical.frames import frames, turned_back
from permgraph.uses.canonical.smallest import RANK, smallest
from permgraph.uses.canonical.ties import Ties

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Form:
    """The canonical form of a state, an element that leads there or near it, and its ties.

    The element does not change weights that only a limit of elements makes 0.
    """

    state: dict[str, Tensor]
    element: Permutations
    ties: Ties


def endless(spec: PermutationSpec) -> list[str]:
    """The groups that scale or mix free outputs: along them the norm has no minimum."""
    moved = {name for _, layout in spec.output_layouts for name in (layout.groups if layout is not None else ())}
    return [group.name for group in spec.groups if group.name in moved and Kind(group.kind).has_scales]


def rounding(state: State) -> float:
    """The rounding error of the coarsest dtype of the stored weights."""
    return max((torch.finfo(t.dtype).eps for t in state.values() if t.is_floating_point()), default=0.0)


def form(spec: PermutationSpec, given: State) -> Form:
    """The canonical form of weights, in float64, tied ones under their first name.

    Units are first sorted as if groups only permuted. So all further steps compute the same numbers, to the last bit,
    for weights that differ by a permutation.
    """
    rough = rounding(given) if spec.kinds == "all" else 0.0  # signs and orders round nothing
    least = max(RANK, 4 * rough)
    names = [name for name in given if name in spec.shapes and name not in spec.ties.aliases]
    state = {name: _wide(given[name]) for name in names}
    plain = replace(spec, groups=tuple(replace(group, kind="permutation") for group in spec.groups))
    first, tables, _ = _ordered(plain, state, Colours(plain, state))
    steps: list[Mapping[str, Any]] = [{g.name: parts.with_index(g.kind, tables[g.name]) for g in spec.groups}]
    found, scaled, unsettled = smallest(spec, first, least)
    steps.append(scaled)
    ties = Ties(spec, rough, max(EQUAL, 4 * rough))
    for name in unsettled:
        ties.open(name, "no state of smallest norm was reached")
    bases = frames(spec, found, rough, least)
    for frame in bases:
        if frame.unsure:
            ties.open(frame.group.name, "directions of equal size: which is which, the given weights say")
    colours = Colours(spec, found, ties.equal)
    ties.add_signs(colours)
    steps.append(turned_back(spec, found, bases, colours.sign))
    found, last, inorder = _ordered(spec, found, colours)
    steps += [_signs(spec, colours), {name: parts.with_index(spec[name].kind, last[name]) for name in last}]
    for name, colour in inorder.items():
        ties.add_units(spec[name], colour, found)
    element = spec.identity()
    for step in steps:
        element = followed(spec.groups, element, step)
    return Form(found, element, ties)


def _ordered(
    spec: PermutationSpec, state: State, colours: Colours
) -> tuple[dict[str, Tensor], dict[str, Index], dict[str, Numbers]]:
    """The state with every unit's sign, in the order of their colours; this order, and the colours in it."""
    signs = _signs(spec, colours)
    order, inorder = _order(spec, colours)
    found = dict(state)
    for name, layout in spec.layouts.items():
        if layout.groups and name not in spec.ties.aliases:
            here = {group: signs[group] for group in layout.groups if group in signs}
            found[name] = layout.apply(order, layout.apply(here, found[name]))
    return found, order, inorder


def _signs(spec: PermutationSpec, colours: Colours) -> dict[str, Monomial]:
    """The signs of single units."""
    return {
        group.name: Monomial(np.broadcast_to(np.arange(group.size), group.table_shape), colours.sign[group.name])
        for group in spec.groups
        if group.kind in ("signed", "monomial")
    }


def _order(spec: PermutationSpec, colours: Colours) -> tuple[dict[str, Index], dict[str, Numbers]]:
    """The permutations that put the units of every row in the order of their colours, and these in order."""
    by_name = {group.name: group for group in spec.groups if not Kind(group.kind).mixes}
    tables: dict[str, Index] = {}
    inorder: dict[str, Numbers] = {}
    for group in sorted(by_name.values(), key=lambda one: len(one.depends_on)):
        colour = colours.colour[group.name]
        index: Index = np.argsort(colour, axis=-1, kind="stable")
        ordered: Numbers = np.take_along_axis(colour, index, -1)
        rows = source_rows(by_name, group, tables)
        tables[group.name] = index[rows] if rows else index
        inorder[group.name] = ordered[rows] if rows else ordered
    return tables, inorder


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float64) if tensor.is_floating_point() else tensor.detach().clone()
