"""Reorders units: another state dict with the same function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements import parts
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.units import named, units

Key = Callable[[list[Tensor]], Any]
Order = Sequence[int] | Index | Tensor | Key


def reorder(
    spec: PermutationSpec, state_dict: Mapping[str, Tensor], group: str | PermutationGroup, order: Order
) -> dict[str, Tensor]:
    """f(reorder(θ)) = f(θ), with the units of one group in another order; see `PermutationSpec.reorder`."""
    one = named(spec, group)
    spec.check(state_dict)
    index = _sorted(spec, one, state_dict, order) if callable(order) else _table(one, order)
    return spec.apply({one.name: parts.with_index(one.kind, index)}, state_dict)


def _sorted(spec: PermutationSpec, group: PermutationGroup, state: Mapping[str, Tensor], key: Key) -> Index:
    """The units of each row, stably sorted by their key."""
    values = [float(key(unit.of(state))) for unit in units(spec, group)]
    return np.argsort(np.reshape(values, group.table_shape), axis=-1, kind="stable")


def _table(group: PermutationGroup, order: Sequence[int] | Index | Tensor) -> Index:
    try:
        given = np.asarray(order, dtype=np.int64)
        table: Index = np.broadcast_to(given, group.table_shape).copy()
    except (TypeError, ValueError, OverflowError):
        raise SpecMismatchError(
            f"{group.name}: an order is a function of a unit's slices, or the old places of the {group.size} units, "
            f"in one row or in a table of shape {group.table_shape}"
        ) from None
    if problem := parts.problem("permutation", group.table_shape, table):
        raise SpecMismatchError(f"{group.name}: {problem}")
    return table
