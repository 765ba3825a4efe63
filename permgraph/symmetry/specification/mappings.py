"""The scales and rotations that may move from a layer into others, as quantisation moves them before it rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from permgraph.algebra.kinds import Kind
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.flow import Flow

Place = tuple[str, int, int]
"""Parameter, dimension, exponent."""
Group = tuple[Sequence[PermutationGroup], Mapping[str, Layout]]
"""Its factors, and where they act on tensors."""


@dataclass(frozen=True)
class Transfer:
    """f is unchanged when the units of a group are scaled, or mixed, in some layers and inversely in others.

    A scaling multiplies `takes` by s_i for unit i, to the exponent given there, and divides `gives`; s > 0, or any
    s ≠ 0 if `signs`. A rotation applies M along the axes in `takes`, and M⁻ᵀ along those in `gives`: a writing weight
    becomes M W, a reading one W M⁻¹.

    Attributes:
        group: the group of these changes; for the scale of a held norm, the group that has it when it is not held.
        kind: the kind of that group.
        size: how many units, n of n × n matrices.
        count: how many independent copies there are.
        takes: (parameter, dim, exponent), in the order in which the forward pass uses them.
        gives: the same on the other side.
        plain: whether one vector s multiplies the last rows of one layer's `weight` and `bias`, and divides all columns
            of the others' `weight` in that order, as quantisation tools expect.

    """

    group: str
    kind: str
    size: int
    count: int
    takes: tuple[Place, ...]
    gives: tuple[Place, ...]
    plain: bool = False

    @property
    def signs(self) -> bool:
        """Whether scales may be negative."""
        return Kind(self.kind).has_signs

    @property
    def source(self) -> str:
        """The layer, a module's name, whose weights come first."""
        return _layer(self.takes[0][0])

    @property
    def sources(self) -> tuple[str, ...]:
        """All layers on that side."""
        return tuple(dict.fromkeys(_layer(name) for name, _, _ in self.takes))

    @property
    def readers(self) -> tuple[str, ...]:
        """The layers on the other side."""
        return tuple(dict.fromkeys(_layer(name) for name, _, _ in self.gives))

    def __iter__(self) -> Iterator[Any]:
        """`source, readers = transfer`."""
        return iter((self.source, self.readers))

    def __str__(self) -> str:
        return f"{', '.join(self.sources)} → {', '.join(self.readers)}"


@dataclass(frozen=True)
class Mappings:
    """What may move between layers.

    Attributes:
        scales: from a layer to others; where a group allows any invertible map, its scales are among them.
        rotations: orthogonal or any invertible maps, and where their inverse goes.
        added: parameter -> c of those that the model reads as c + w, as norms that scale by 1 + w: a scale multiplies
            or divides c + w.

    """

    scales: tuple[Transfer, ...] = ()
    rotations: tuple[Transfer, ...] = ()
    added: Mapping[str, float] = field(default_factory=dict)

    def layers(self) -> list[dict[str, Any]]:
        """The plain scales as `{"smooth_layer": name, "balance_layers": [names]}`, for tools that smooth activations.

        The names are exact, not patterns. AWQ and SmoothQuant recipes of llm-compressor take such pairs. Of a norm
        in `added` a tool has to scale what the norm multiplies with, as llm-compressor does for 1 + w.
        """
        return [
            {"smooth_layer": scale.source, "balance_layers": list(scale.readers)}
            for scale in self.scales
            if scale.plain
        ]

    def __str__(self) -> str:
        lines = [f"scale {one}" for one in self.scales] + [f"rotate {one}" for one in self.rotations]
        return "\n".join(lines) or "nothing moves between layers"


def mappings(scaling: Group, turning: Group, flow: Flow, added: Mapping[str, float]) -> Mappings:
    """All mappings: rotations from the group `turning`, in which norms are held, scales from `scaling`, without that.

    In `scaling`, a parameter in `added` represents c + w.
    """
    scales = _transfers(*scaling, flow, lambda kind: kind.has_scales)
    rotations = _transfers(*turning, flow, lambda kind: kind.mixes)
    moved = {name for scale in scales for name, _, _ in (*scale.takes, *scale.gives)}
    return Mappings(tuple(scales), tuple(rotations), {name: c for name, c in added.items() if name in moved})


def _transfers(
    groups: Sequence[PermutationGroup], layouts: Mapping[str, Layout], flow: Flow, wanted: Callable[[Kind], bool]
) -> list[Transfer]:
    transfers = []
    for group in groups:
        if wanted(Kind(group.kind)):
            sides = [_places(group.name, layouts, flow, sign) for sign in (1, -1)]
            if all(sides):
                takes, gives = sorted(sides, key=lambda side: flow.first_use(side[0][0]))
                size = group.size if group.size > 1 else prod(group.depends_sizes[-1:])
                count = group.count * group.size // max(size, 1)
                plain = _is_plain(group, takes, gives, layouts, flow)
                transfers.append(Transfer(group.name, group.kind, size, count, takes, gives, plain))
    return sorted(transfers, key=lambda transfer: flow.first_use(transfer.takes[0][0]))


def _places(group: str, layouts: Mapping[str, Layout], flow: Flow, sign: int) -> tuple[Place, ...]:
    """The places at which the exponent of a group has this sign; exponents are given without it."""
    places: dict[Place, None] = {}
    for name, layout in layouts.items():
        for cell in layout.cells:
            for move in cell.moves:
                if move.group == group and move.power * sign > 0:
                    for k in move.leaves or move.keys[-1]:
                        places[name, cell.leaves[k].dim, abs(move.power)] = None
    return tuple(sorted(places, key=lambda place: flow.first_use(place[0])))


def _is_plain(
    group: PermutationGroup,
    takes: Sequence[Place],
    gives: Sequence[Place],
    layouts: Mapping[str, Layout],
    flow: Flow,
) -> bool:
    sources, readers = {_layer(name) for name, _, _ in takes}, {_layer(name) for name, _, _ in gives}
    if len(sources) > 1 or sources & readers or any(power != 1 for _, _, power in (*takes, *gives)):
        return False
    if not all(name.endswith((".weight", ".bias")) for name, _, _ in (*takes, *gives)):
        return False  # a tool looks for these
    if any(len(layouts[name].shape) < 2 or not flow.follows(name, takes[0][0]) for name, _, _ in gives):
        return False  # both sides write, as queries and keys do
    written = [_units(group, layouts[name], dim) for name, dim, _ in takes]
    read = [_units(group, layouts[name], dim) for name, dim, _ in gives]
    order = read[0]
    if order is None or np.any(order < 0):
        return False
    last = [one if one is None else one[len(one) - len(order) :] for one in written]
    return all(one is not None and np.array_equal(one, order) for one in (*last, *read))


def _units(group: PermutationGroup, layout: Layout, dim: int) -> Index | None:
    """The number of the unit at each position of a dimension, -1 for none; None if it depends on other dimensions."""
    found = np.full(layout.shape[dim], -2, dtype=np.int64)
    for cell in layout.cells:
        unit: Index = np.full([1] * len(cell.leaves), -1, dtype=np.int64)
        for move in cell.moves:
            if move.group == group.name and move.power:
                here, unit = cell.coordinates(), np.zeros([1] * len(cell.leaves), dtype=np.int64)
                for leaves, size in zip((*move.keys, move.leaves), group.table_shape, strict=True):
                    unit = unit * size + cell.ravel(here, leaves)
        positions = cell.positions(dim, cell.own_coordinates(dim))
        if any(unit.shape[k] > 1 for k, leaf in enumerate(cell.leaves) if leaf.dim != dim):
            return None
        unit, positions = (x.ravel() for x in np.broadcast_arrays(unit, positions))
        if np.any((found[positions] != -2) & (found[positions] != unit)):
            return None
        found[positions] = unit
    return found


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
