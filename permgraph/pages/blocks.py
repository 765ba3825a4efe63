"""A model as blocks for drawing: the tree of its modules with equal layers folded, every axis as coloured segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import prod
from typing import Any

from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.specification.spec import PermutationSpec

PINNED = -1
MOST_SEGMENTS = 12  # an axis that is cut finer than this is drawn as one piece, with all its groups

Segment = tuple[float, tuple[int, ...]]
"""Share of an axis, and the groups that act there by number, outer to inner; PINNED for a factor that nothing moves."""


def segments(layout: Layout, dim: int, numbers: Mapping[str, int]) -> list[Segment]:
    """The pieces of an axis from first to last; adjacent pieces with the same groups are joined.

    Interleaved pieces (query, key and value of each head in turn) are listed by their first units.
    """
    pieces: dict[int, tuple[int, tuple[int, ...]]] = {}
    for cell in layout.cells:
        here = [k for k, leaf in enumerate(cell.leaves) if leaf.dim == dim]
        owner = {k: numbers[move.group] for move in cell.moves for k in move.leaves}
        acting = tuple(dict.fromkeys(owner.get(k, PINNED) for k in here)) or (PINNED,)
        size = prod(cell.leaves[k].size for k in here)
        known = pieces.get(cell.offsets[dim])
        if known is None or known[1] == (PINNED,):
            pieces[cell.offsets[dim]] = (size, acting)
    total = layout.shape[dim]
    ordered = [pieces[offset] for offset in sorted(pieces)]
    merged = [
        (round(sum(size for size, _ in run) / total, 4), acting)
        for acting, run in ((key, list(items)) for key, items in groupby(ordered, key=lambda piece: piece[1]))
    ]
    if len(merged) > MOST_SEGMENTS:
        return [(1.0, tuple(dict.fromkeys(k for _, acting in merged for k in acting)))]
    return merged


@dataclass
class Block:
    """A module: its own tensors by name, and the modules in it; `folded` lists runs of children that are equal."""

    name: str
    path: str
    tensors: list[str] = field(default_factory=list)
    children: dict[str, Block] = field(default_factory=dict)
    folded: list[list[str]] = field(default_factory=list)


def module_tree(names: Iterable[str]) -> Block:
    """The blocks of tensors named like `layers.0.mlp.weight`, in the order in which they come."""
    root = Block("", "")
    for name in names:
        block = root
        for part in name.split(".")[:-1]:
            path = f"{block.path}.{part}" if block.path else part
            block = block.children.setdefault(part, Block(part, path))
        block.tensors.append(name)
    return root


def fold_equal(block: Block, looks: Mapping[str, object]) -> object:
    """Note in `folded` which numbered neighbours look the same, here and below; returns what this block looks like."""
    own = tuple((name.rpartition(".")[2], looks[name]) for name in block.tensors)
    inside = {name: fold_equal(child, looks) for name, child in block.children.items()}
    runs = groupby(inside, key=lambda name: inside[name] if name.isdigit() else name)
    block.folded = [list(run) for _, run in runs]
    return own, tuple((name if not name.isdigit() else "#", look) for name, look in inside.items())


def folded_paths(block: Block) -> set[str]:
    """Paths of all blocks in a run of equal ones."""
    found = {block.children[name].path for run in block.folded if len(run) > 1 for name in run}
    return found.union(*map(folded_paths, block.children.values()))


def kind_of(name: str, folded: set[str]) -> str:
    """The name of a group with `#` for the number of a folded block: groups of one kind are drawn in one colour."""
    parts = name.split(".")
    shown = ["#" if ".".join(parts[: k + 1]) in folded else part for k, part in enumerate(parts)]
    return ".".join(shown)


def looks_of(spec: PermutationSpec) -> dict[str, object]:
    """Tensor -> what must agree for two layers to be drawn as one: shape, and role and size of the groups on it."""
    numbers = {group.name: k for k, group in enumerate(spec.groups)}
    found: dict[str, object] = {}
    for name, shape in spec.shapes.items():
        layout = spec.layouts.get(name)
        if layout is None:
            found[name] = shape
            continue
        pieces = [segments(layout, dim, numbers) for dim in range(len(shape))]
        found[name] = (
            shape,
            tuple(
                (share, *((spec.groups[k].role, spec.groups[k].size) if k >= 0 else ("", 0) for k in acting))
                for axis in pieces
                for share, acting in axis
            ),
        )
    return found


def to_data(block: Block, index: Mapping[str, int]) -> dict[str, Any]:
    """Plain JSON: name, numbers of tensors, and children in runs, each a list of one block or of equal ones."""
    name, inner = block.name, block
    while not inner.tensors and len(inner.children) == 1 and inner.name:  # a chain of modules is one box
        inner = next(iter(inner.children.values()))
        name = f"{name}.{inner.name}"
    return {
        "name": name,
        "tensors": [index[tensor] for tensor in inner.tensors],
        "runs": [[to_data(inner.children[child], index) for child in run] for run in inner.folded],
    }
