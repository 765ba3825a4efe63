"""Axis labels of every tensor, as a tree, for networks that take weights as input."""

from __future__ import annotations

from typing import Any

from permgraph.symmetry.elements.cells import Cell
from permgraph.symmetry.specification.spec import PermutationSpec


def labels(spec: PermutationSpec) -> dict[str, Any]:
    """The groups, and for each tensor of the state dict the factors of its axes; see `PermutationSpec.labels`."""
    tree: dict[str, Any] = {}
    for name, shape in spec.shapes.items():
        layout = spec.layouts.get(name)
        here = tree
        *path, last = name.split(".")
        for part in path:
            here = here.setdefault(part, {})
        here[last] = [_block(cell) for cell in layout.cells] if layout is not None else [_unmoved(shape)]
    groups = {
        group.name: {
            "kind": group.kind,
            "size": group.size,
            "depends_on": list(group.depends_on),
            "depends_sizes": list(group.depends_sizes),
            "role": group.role,
        }
        for group in spec.groups
    }
    return {"groups": groups, "tensors": tree}


def _block(cell: Cell) -> dict[str, Any]:
    axes: list[list[dict[str, Any]]] = [[] for _ in cell.offsets]
    found: dict[int, dict[str, Any]] = {}
    for k, leaf in enumerate(cell.leaves):
        found[k] = {"label": None, "size": leaf.size, "stride": leaf.stride}
        axes[leaf.dim].append(found[k])
    moves = []
    for move in cell.moves:
        for place, k in enumerate(move.leaves):
            found[k]["label"] = move.group if len(move.leaves) == 1 else f"{move.group}/{place}"
        moves.append(
            {
                "group": move.group,
                "power": move.power,
                "units": [_place(cell, k) for k in move.leaves],
                "rows": [[_place(cell, k) for k in key] for key in move.keys],
            }
        )
    return {"start": list(cell.offsets), "axes": axes, "moves": moves}


def _place(cell: Cell, k: int) -> list[int]:
    """(dimension, number of the factor on it)."""
    dim = cell.leaves[k].dim
    return [dim, sum(leaf.dim == dim for leaf in cell.leaves[:k])]


def _unmoved(shape: tuple[int, ...]) -> dict[str, Any]:
    axes = [[{"label": None, "size": size, "stride": 1}] for size in shape]
    return {"start": [0] * len(shape), "axes": axes, "moves": []}
