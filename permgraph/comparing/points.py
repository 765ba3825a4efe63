"""Points of the graph at which units of two models are compared: activations that an operation contracts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import isfinite, prod

import numpy as np
import torch
from torch import Tensor

from permgraph.errors import CalibrationError, OptionError
from permgraph.symmetry.derivation import Derivation
from permgraph.symmetry.layout import Cell, Layout, Move

FEWEST_FRAMES = 0.1
"""Points with a smaller share of the frames of a group's widest point are left out: they would be noise beside it."""
MOST_TOGETHER = 8192
"""Groups that meet side by side at a point, none dependent on the other, are compared apart above so many places."""
MOST_POINTS = 4  # a group that occurs at more is compared at this many, evenly spread from first to last


@dataclass(frozen=True)
class Point:
    """A cell of an activation: the groups on it, outer to inner, and the leaves that each of them indexes.

    Leaves that no group names (batch, time, space) are frames, but for those in `averaged`, over which the mean is
    taken. `weight` is what its correlations count. A point in `reserve` counts only where the others of a group have
    too few frames, or stand still.
    """

    node: str
    shape: tuple[int, ...]
    cell: Cell
    groups: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    weight: float = 1.0
    reserve: bool = False
    averaged: tuple[int, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of units of each group."""
        return tuple(prod(self.cell.leaves[k].size for k in leaves) for leaves in self.units)

    @property
    def frame_leaves(self) -> tuple[int, ...]:
        """The leaves that are frames."""
        return tuple(k for k in range(len(self.cell.leaves)) if k not in chain(self.averaged, *self.units))

    @property
    def frame_dims(self) -> set[int]:
        """The dimensions along which there is more than one frame."""
        return {self.cell.leaves[k].dim for k in self.frame_leaves if self.cell.leaves[k].size > 1}

    @property
    def frame_count(self) -> int:
        """How many frames the batch that was traced has here."""
        return prod(self.cell.leaves[k].size for k in self.frame_leaves)

    def resized(self, shape: Sequence[int]) -> Point:
        """The same point on a batch of another size: dimensions that are frames alone may differ."""
        if tuple(shape) == self.shape:
            return self
        leaves = list(self.cell.leaves)
        for dim, (old, new) in enumerate(zip(self.shape, shape, strict=True)):
            here = [k for k, leaf in enumerate(leaves) if leaf.dim == dim]
            if old != new:
                if len(here) != 1 or here[0] not in self.frame_leaves:
                    raise CalibrationError(
                        f"{self.node} has shape {tuple(shape)} on this batch, {self.shape} before; "
                        "give batches of one shape"
                    )
                leaves[here[0]] = replace(leaves[here[0]], size=new)
        return replace(self, shape=tuple(shape), cell=replace(self.cell, leaves=tuple(leaves)))

    def frames(self, activation: Tensor) -> Tensor:
        """[..., units]: the activation, its units in the order of `groups` behind the frames; a view if it can be."""
        for dim in range(activation.dim()):
            here = [leaf for leaf in self.cell.leaves if leaf.dim == dim]
            count = prod(leaf.size for leaf in here)
            if count != activation.shape[dim] or any(a.stride < b.stride for a, b in pairwise(here)):
                index = self.cell.positions(dim, self.cell.own_coordinates(dim)).ravel()
                activation = activation.index_select(dim, torch.from_numpy(index).to(activation.device))
        activation = activation.reshape([leaf.size for leaf in self.cell.leaves])
        frames, averaged = self.frame_leaves, self.averaged
        if averaged:
            activation = activation.mean(averaged, keepdim=True)
        ordered = activation.permute([*frames, *averaged, *chain(*self.units)])
        return ordered.flatten(len(frames)) if frames else ordered.reshape(1, -1)

    def apart(self, dependencies: Mapping[str, tuple[str, ...]]) -> list[Point]:
        """One point for each set of groups that depend on each other, the means over the units of the others.

        No permutation of the others changes a mean over their units. A layer that mixes positions, of 256 hidden units
        for each of 512 channels, would else be compared at 131072 places.
        """
        sets: list[set[str]] = []
        for name in self.groups:
            met = [one for one in sets if not one.isdisjoint({name, *dependencies.get(name, ())})]
            sets = [one for one in sets if one not in met] + [{name}.union(*met)]
        if len(sets) == 1:
            return [self]
        found = []
        for here in sets:
            units = [(name, leaves) for name, leaves in zip(self.groups, self.units, strict=True) if name in here]
            names, leaves = zip(*units, strict=True)
            others = (k for name, key in zip(self.groups, self.units, strict=True) if name not in here for k in key)
            found.append(replace(self, groups=names, units=leaves, averaged=tuple(others)))
        return found

    def kept(self, mask: Tensor | None) -> Tensor | None:
        """Which frames are no padding, given a mask [batch, positions] of the input; None keeps all.

        A frame is kept if the share of the input that it covers holds no padding: frame j of T' covers positions
        jT/T' to (j+1)T/T'. Applies where the frames are (batch, time).
        """
        leaves = [self.cell.leaves[k] for k in self.frame_leaves]
        sizes = [leaf.size for leaf in leaves]
        if mask is None or bool(mask.all()) or len(sizes) != 2 or sizes[0] != mask.shape[0]:
            return None
        if leaves[0].dim or not leaves[1].dim:  # rows and columns of one image, say
            return None
        total = torch.nn.functional.pad(mask.long().cumsum(1), (1, 0))
        edges = torch.linspace(0, mask.shape[1], sizes[1] + 1, device=mask.device)
        low, high = edges[:-1].floor().long(), edges[1:].ceil().long()
        return (total[:, high] - total[:, low] == high - low).reshape(-1)


def find_points(derivation: Derivation, wanted: Iterable[str]) -> list[Point]:
    """The points for the groups named: at most MOST_POINTS each, activations in which the group is contracted.

    A group that is contracted nowhere is compared at the last activation that carries it; one that is contracted only
    where a sample is one frame (behind a pooling over space) has the last of the widest in reserve. What depends on the
    weights alone (a transposed weight, say) is no activation.
    """
    compared = _activations(derivation)
    reading = _by_group(derivation, compared, _contracted(derivation, compared))
    anywhere = _by_group(
        derivation, compared, ((t, cell) for t in compared for cell in derivation.resolution.layouts[t].cells())
    )
    chosen: dict[tuple[str, tuple[int, ...]], Point] = {}
    for group in wanted:
        there = anywhere.get(group, [])
        places = _spread(_telling(reading[group])) if group in reading else there[-1:]
        if all(point.frame_dims <= {0} for point in places) and any(point.frame_dims - {0} for point in there):
            widest = max(reversed(there), key=lambda point: point.frame_count)
            chosen.setdefault((widest.node, widest.cell.offsets), replace(widest, reserve=True))
        for point in places:
            chosen[point.node, point.cell.offsets] = point
    dependencies = derivation.dependencies
    return [
        part
        for point in chosen.values()
        for part in (point.apart(dependencies) if prod(point.sizes) > MOST_TOGETHER else [point])
    ]


def _telling(points: list[Point]) -> list[Point]:
    """Without points that say next to nothing beside the others.

    A model that picks out one position (the class token of BERT and ViT, for its pooler) cuts every activation in two:
    that position, with one frame a sample, which before the first attention is the same in all samples; and the rest.
    """
    most = max(point.frame_count for point in points)
    return [point for point in points if point.frame_count >= FEWEST_FRAMES * most]


def weigh(
    points: Sequence[Point], weights: Mapping[str, Sequence[float]], covers: Callable[[str, str], bool]
) -> list[Point]:
    """The points with the weights given for their groups, from the first point of a group to its last.

    A key is what `covers(key, group)` takes: a name or a role. A point with two groups takes the later key's weight;
    one of weight 0 is left out. Raises OptionError where a key covers no group, where a number is negative or not
    finite, where there are not as many as a group has points, and where all weights of a group are 0.
    """
    found = {point: point.weight for point in points}
    for key, values in weights.items():
        names = [name for name in dict.fromkeys(n for point in points for n in point.groups) if covers(key, name)]
        if not names:
            raise OptionError(f"point_weights: {key!r} is the name or role of no group that is matched")
        if any(not (isfinite(value) and value >= 0) for value in values) or not any(values):
            raise OptionError(f"point_weights: {key!r} has {list(values)}; weights are at least 0, and one is above")
        for name in names:
            here = [point for point in points if name in point.groups and not point.reserve]
            if len(here) != len(values):
                where = ", ".join(point.node for point in here)
                raise OptionError(
                    f"point_weights: {key!r} has {len(values)} weights, and {name} is compared at {len(here)} points: "
                    f"{where}"
                )
            found |= dict(zip(here, map(float, values), strict=True))
    return [replace(point, weight=weight) for point, weight in found.items() if weight > 0]


def _spread(points: list[Point]) -> list[Point]:
    if len(points) <= MOST_POINTS:
        return points
    index = np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)
    return [points[k] for k in index]


def _by_group(
    derivation: Derivation, compared: Mapping[str, str], cells: Iterable[tuple[str, tuple[int, ...]]]
) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    layouts: dict[str, Layout] = {}
    for tensor, index in dict.fromkeys(cells):
        if tensor not in layouts:
            layouts[tensor] = derivation.grouping.layout(tensor)
        point = replace(_point(tensor, layouts[tensor], index, derivation), node=compared[tensor])
        for group in point.groups:
            found.setdefault(group, []).append(point)
    return found


def _contracted(derivation: Derivation, compared: Mapping[str, str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Cells of activations in which an operation sums over a group."""
    free = {kind for kind, bundle in derivation.grouping.bundles.items() if bundle.free}
    for instance in derivation.resolution.instances:
        for operand in instance.operands:
            for (variable, _), occurrence in operand.items():
                is_summed = variable in instance.relation.contracted and occurrence.tensor in compared
                if is_summed and derivation.resolution.factors.find(occurrence) in free:
                    yield occurrence.tensor, occurrence.cell


def _activations(derivation: Derivation) -> dict[str, str]:
    """Tensor -> the node that computes it: tensors that depend on inputs and on parameters, and have elements."""
    carriers, fed = dict[str, str](), set[str]()
    for node in derivation.program.graph.graph.nodes:
        feed = derivation.program.feeds.get(node.name)
        if (feed is not None and feed.kind == "input") or any(before.name in fed for before in node.all_input_nodes):
            fed.add(node.name)
            carriers[node.name] = node.name
            if node.target is operator.getitem:
                carriers[f"{node.args[0].name}:{node.args[1]}"] = node.name
    found = {}
    for name in derivation.resolution.layouts:
        value = derivation.trace.values[name]
        if name in carriers and value.kind == "activation" and value.uses_parameters and 0 not in value.shape:
            found[name] = carriers[name]
    return found


def _point(tensor: str, layout: Layout, index: tuple[int, ...], derivation: Derivation) -> Point:
    places = derivation.resolution.layouts[tensor]
    cell = layout.cells[list(places.cells()).index(index)]
    units = axes_of(cell, cell.moves, derivation.dependencies)
    return Point(tensor, layout.shape, cell, tuple(name for name, _ in units), tuple(leaves for _, leaves in units))


def axes_of(
    cell: Cell, moves: Iterable[Move], dependencies: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, tuple[int, ...]]]:
    """(group or pinned factor, leaves) of the moves and of what selects them, each after what it depends on."""
    found: dict[str, tuple[int, ...]] = {}
    for move in moves:
        for name, key in zip(dependencies[move.group], move.keys, strict=True):
            found.setdefault(name, key)
    for move in moves:
        found.setdefault(move.group, move.leaves)
    return sorted(found.items(), key=lambda item: _depth(item[0], dependencies))


def _depth(name: str, dependencies: Mapping[str, tuple[str, ...]]) -> int:
    return 1 + max((_depth(lower, dependencies) for lower in dependencies.get(name, ())), default=0)
