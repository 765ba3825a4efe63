"""Checks that a specification read from JSON is consistent: every element moves every entry exactly once."""

from __future__ import annotations

from itertools import combinations
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements.cells import Cell
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.permutations import PermutationGroup

if TYPE_CHECKING:
    from permgraph.symmetry.specification.spec import PermutationSpec

MOST_IN_A_TABLE = 1 << 28
MOST_CELLS, MOST_MASKED = 64, 1 << 26


def require_coherent(spec: PermutationSpec) -> None:
    """Raise SpecMismatchError for a specification with unknown names, or that moves two entries onto one."""
    groups = {group.name: group for group in spec.groups}
    _require(len(groups) == len(spec.groups), "two groups have one name")
    layouts = [
        *spec.layouts.items(),
        *((name, layout) for name, layout in spec.output_layouts if layout is not None),
    ]
    layouts += [(", ".join(stream.places), stream.layout) for stream in spec.streams]
    _require_groups(groups, spec)
    for name, layout in layouts:
        for cell in layout.cells:
            _require_cell(cell, layout.shape, groups, name)
        _require_cover(layout, name)
    for name, layout in spec.layouts.items():
        _require(spec.shapes.get(name) == layout.shape, f"the layout of {name} is not of its shape")
    shifted = [shift.tensor for shift in spec.shifts]
    for names in (spec.parameters, spec.unreached, spec.held, spec.unread, shifted):
        _require(all(name in spec.shapes for name in names), "it names a tensor that it does not have")
    for name, blocks in spec.unread.items():
        _require(
            all(len(b) == len(spec.shapes[name]) for b in blocks), f"what is not read of {name} is not of its rank"
        )
    for transfer in (*spec.transfers.scales, *spec.transfers.rotations):
        for name, dim, _ in (*transfer.takes, *transfer.gives):
            _require(dim < len(spec.shapes.get(name, ())), f"{transfer.group} is moved along an axis that is not there")
        _require(bool(transfer.takes and transfer.gives), f"{transfer.group} moves from no layer, or into none")
    _require(all(name in spec.shapes for name in spec.transfers.added), "it adds to a tensor that it does not have")
    _require_ties(spec, groups)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise SpecMismatchError(f"this specification is damaged ({what}): derive it again")


def _require_groups(groups: dict[str, PermutationGroup], spec: PermutationSpec) -> None:
    for name, group in groups.items():
        _require(group.size > 0 and prod(group.table_shape) <= MOST_IN_A_TABLE, f"group {name} has an impossible size")
        _require(len(group.depends_on) == len(group.depends_sizes), f"group {name} has sizes for other dependencies")
        for tensor, dim in group.axes:
            _require(dim < len(spec.shapes.get(tensor, ())), f"group {name} acts on an axis that is not there")
    seen: set[str] = set()
    waiting = list(groups.values())
    while ready := [g for g in waiting if all(name in seen or name not in groups for name in g.depends_on)]:
        seen |= {group.name for group in ready}
        waiting = [group for group in waiting if group.name not in seen]
    _require(not waiting, "groups depend on each other in a circle")


def _require_cell(cell: Cell, shape: tuple[int, ...], groups: dict[str, PermutationGroup], name: str) -> None:
    rank, leaves = len(shape), cell.leaves
    _require(len(cell.offsets) == rank, f"a cell of {name} is not of its rank")
    _require(all(leaf.dim < rank and leaf.size > 0 and leaf.stride > 0 for leaf in leaves), f"a leaf of {name}")
    for dim in range(rank):
        own = sorted((leaf.stride, leaf.size) for leaf in leaves if leaf.dim == dim and leaf.size > 1)
        reach = 0
        for stride, size in own:
            _require(stride > reach, f"positions of {name} coincide")
            reach += stride * (size - 1)
        _require(cell.offsets[dim] + reach < shape[dim] or not prod(shape), f"a cell of {name} reaches past its end")
    moved: list[int] = []
    for move in cell.moves:
        group = groups.get(move.group)
        used = [*move.leaves, *(k for key in move.keys for k in key)]
        _require(group is not None, f"{name} is moved by an unknown group")
        assert group is not None
        _require(all(k < len(leaves) for k in used) and len({*used}) == len(used), f"a move of {name} repeats a leaf")
        _require(prod(leaves[k].size for k in move.leaves) == group.size, f"{move.group} has another size on {name}")
        sizes = tuple(prod(leaves[k].size for k in key) for key in move.keys)
        _require(sizes == group.depends_sizes, f"{move.group} depends on other sizes on {name}")
        moved += move.leaves
    _require(len({*moved}) == len(moved), f"two groups move one leaf of {name}")


def _require_cover(layout: Layout, name: str) -> None:
    """The cells cover the tensor once: as many elements in all, and none in two."""
    cells, numel = layout.cells, prod(layout.shape)
    _require(sum(cell.size for cell in cells) == numel, f"the cells of {name} do not cover it")
    if len(cells) < 2:
        return
    places = [[_positions(cell, dim) for dim in range(len(layout.shape))] for cell in cells]
    if numel <= MOST_MASKED:
        mask = np.zeros(layout.shape, dtype=bool)
        for place in places:
            mask[np.ix_(*place)] = True
        _require(bool(mask.all()), f"the cells of {name} do not cover it")
        return
    _require(len(cells) <= MOST_CELLS, f"{name} has more than {MOST_CELLS} cells")
    for one, other in combinations(places, 2):
        apart = any(not np.intersect1d(a, b, assume_unique=True).size for a, b in zip(one, other, strict=True))
        _require(apart, f"two cells of {name} overlap")


def _positions(cell: Cell, dim: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    found = np.array([cell.offsets[dim]], dtype=np.int64)
    for leaf in cell.leaves:
        if leaf.dim == dim:
            found = np.add.outer(found, leaf.stride * np.arange(leaf.size, dtype=np.int64)).ravel()
    return found


def _require_ties(spec: PermutationSpec, groups: dict[str, PermutationGroup]) -> None:
    ties, nodes = spec.ties, len(spec.ties.nodes)
    _require(all(node.group in groups or not node.group for node in ties.nodes), "a tie names an unknown group")
    _require(all(max(a, b) < nodes and source < len(ties.sources) for a, b, source in ties.ties), "a tie of no node")
    _require(all(node < nodes for node, _ in ties.pins), "a pin of no node")
