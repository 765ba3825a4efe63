"""Data on the uses of groups for the inspection: a unit's slices, what its removal deletes, what moves elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permgraph.errors import SpecMismatchError
from permgraph.pages.blocks import kind_of
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.mappings import Transfer
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.removing import elements_lost
from permgraph.uses.units import slices_of


def uses_of(spec: PermutationSpec, numbers: Mapping[str, int], index: Mapping[str, int], folded: set[str]) -> Any:
    """Columns by group, and the scales and rotations; groups that are drawn as one are computed once."""
    known: dict[object, tuple[int, int, int]] = {}
    columns = []
    for group in spec.groups:
        alike = kind_of(group.name, folded), group.symbol, group.count, len(group.axes)
        if alike not in known:
            known[alike] = _of(spec, group)
        columns.append(known[alike])
    slices, tensors, lost = ([*column] for column in zip(*columns, strict=True)) if columns else ([], [], [])
    found = spec.mappings()
    moves = [(0, one) for one in found.scales] + [(1, one) for one in found.rotations]
    return {
        "slices": slices,
        "tensors": tensors,
        "lost": lost,
        "moves": [[numbers.get(one.group, -1), turns, *_sides(one, index), one.plain] for turns, one in moves],
    }


def _of(spec: PermutationSpec, group: PermutationGroup) -> tuple[int, int, int]:
    """Slices of a unit, tensors that they are in, and elements that go with a unit of each row; 0 if none can go."""
    slices = slices_of(spec, group, (0,) * len(group.table_shape))
    try:
        lost = elements_lost(spec, group.name)
    except SpecMismatchError:
        lost = 0
    return len(slices), len({name for name, _ in slices}), lost


def _sides(one: Transfer, index: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """The numbers of the tensors on either side."""
    takes, gives = (list(dict.fromkeys(index[name] for name, _, _ in side)) for side in (one.takes, one.gives))
    return takes, gives
