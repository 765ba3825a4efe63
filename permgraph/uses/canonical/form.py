"""From weights to their canonical form: an order, the smallest norm, frames, signs, and the order again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.symmetry.parts import Index, Monomial, Numbers
from permgraph.symmetry.permutations import source_rows
from permgraph.symmetry.spec import PermutationSpec
from permgraph.uses.canonical.colours import EQUAL, Colours
from permgraph.uses.canonical.frames import frames, turned_back
from permgraph.uses.canonical.smallest import smallest
from permgraph.uses.canonical.ties import Ties

State = Mapping[str, Tensor]


def form(spec: PermutationSpec, state: State, rounding: float) -> tuple[dict[str, Tensor], dict[str, str], bool]:
    """The canonical form, its ties, and whether these leave no other form.

    Units are first put in order as if groups permuted alone. So all that follows has the same numbers, to the last
    bit, for all weights that differ by a permutation. `rounding` is that of the stored weights, which counts where
    more than signs and orders was changed.
    """
    plain = replace(spec, groups=tuple(replace(group, kind="permutation") for group in spec.groups))
    first, _ = _ordered(plain, state, Colours(plain, state))
    is_exact = spec.kinds != "all"
    rounding = 0.0 if is_exact else rounding
    found, unsettled = smallest(spec, first)
    ties = Ties(spec, rounding, max(EQUAL, 4 * rounding))
    for name in unsettled:
        ties.open(name, "no state of smallest norm was reached")
    bases = frames(spec, found, rounding)
    for frame in bases:
        if frame.unsure:
            ties.open(frame.group.name, "directions of equal size: which is which, the given weights say")
    colours = Colours(spec, found, ties.equal)
    ties.add_signs(colours)
    turned_back(spec, found, bases, colours.sign)
    found, sorted_colours = _ordered(spec, found, colours)
    for group in spec.groups:
        if group.name in sorted_colours:
            ties.add_units(group, sorted_colours[group.name], found)
    return found, ties.found, ties.unique


def _ordered(spec: PermutationSpec, state: State, colours: Colours) -> tuple[dict[str, Tensor], dict[str, Numbers]]:
    """The state with every unit's sign, in the order of their colours; and the colours in that order."""
    signs = {
        group.name: Monomial(np.broadcast_to(np.arange(group.size), group.table_shape), colours.sign[group.name])
        for group in spec.groups
        if group.kind in ("signed", "monomial")
    }
    order, inorder = _order(spec, colours)
    found = dict(state)
    for name, layout in spec.layouts.items():
        if layout.groups and name not in spec.ties.aliases:
            here = {group: signs[group] for group in layout.groups if group in signs}
            found[name] = layout.apply(order, layout.apply(here, found[name]))
    return found, inorder


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
