"""Points of the graph at which units of two models are compared: activations that an operation contracts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite, prod

import numpy as np
from torch import fx

from permgraph.comparing.frames import Point
from permgraph.comparing.inside import LABELS
from permgraph.errors import OptionError
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.layout import Layout
from permgraph.tracing.program import op_name

FEWEST_FRAMES = 0.1
"""Points with a smaller share of the frames of a group's widest point are left out: they would only add noise."""
MOST_TOGETHER = 8192
"""Groups that occur together at a point, none dependent on another, are compared separately above this many units."""
MEMORY = ("aten.empty", "aten.empty_like", "aten.empty_strided", "aten.new_empty", "aten.new_empty_strided")
"""Operations whose results are uninitialised memory until they are written to."""
LARGEST_FILL = 1e30
MOST_POINTS = 4  # a group that occurs at more is compared at this many, evenly spread from first to last


def find_points(derivation: Derivation, wanted: Iterable[str], mixed: Container[str] = ()) -> list[Point]:
    """The points for the groups named: at most MOST_POINTS each, activations in which the group is contracted.

    A map that mixes units must fit all readers, so the groups in `mixed` are compared at all their points.

    A group that is never contracted is compared at the last activation in which it occurs; a group that is contracted
    only where a sample is one frame (after pooling over space) has the last of its widest points in reserve. A tensor
    that depends only on weights (such as a transposed weight) is not an activation.
    """
    compared = _activations(derivation)
    reading = _by_group(derivation, compared, [*_contracted(derivation, compared), *_inside(derivation, compared)])
    anywhere = _by_group(
        derivation, compared, ((t, cell) for t in compared for cell in derivation.resolution.layouts[t].cells())
    )
    chosen: dict[tuple[str, str, tuple[int, ...]], Point] = {}
    for group in wanted:
        there = anywhere.get(group, [])
        places = reading[group] if group in reading else there[-1:]
        inside = [point for point in places if point.inside]
        places = [point for point in places if not point.inside] or there[-1:]
        places = [*(places if group in mixed or not places else _spread(_telling(places))), *inside]
        if all(point.frame_dims <= {0} for point in places) and any(point.frame_dims - {0} for point in there):
            widest = max(reversed(there), key=lambda point: point.frame_count)
            chosen.setdefault((widest.node, widest.inside, widest.cell.offsets), replace(widest, reserve=True))
        for point in places:
            chosen[point.node, point.inside, point.cell.offsets] = point
    dependencies = derivation.dependencies
    return [
        part
        for point in chosen.values()
        for part in (point.apart(dependencies) if prod(point.sizes) > MOST_TOGETHER else [point])
    ]


def _telling(points: list[Point]) -> list[Point]:
    """The points without those that have little evidence compared with the others.

    A model that selects one position (the class token of BERT and ViT, for its pooler) splits every activation in two:
    that position, with one frame a sample, which before the first attention is the same in all samples; and the rest.
    """
    most = max(point.frame_count for point in points)
    return [point for point in points if point.frame_count >= FEWEST_FRAMES * most]


def weigh(
    points: Sequence[Point], weights: Mapping[str, Sequence[float]], covers: Callable[[str, str], bool]
) -> list[Point]:
    """The points with the weights given for their groups, from the first point of a group to its last.

    A key is a name or a role, as `covers(key, group)` takes it. A point with two groups takes the later key's weight;
    a point of weight 0 is left out. Raises OptionError if a key covers no group, if a number is negative or not finite,
    if there are not as many as a group has points, or if all weights of a group are 0.
    """
    found = {point: point.weight for point in points}
    for key, values in weights.items():
        names = [name for name in dict.fromkeys(n for point in points for n in point.groups) if covers(key, name)]
        if not names:
            raise OptionError(f"point_weights: {key!r} is the name or role of no group that is matched")
        if any(not (isfinite(value) and value >= 0) for value in values) or not any(values):
            raise OptionError(
                f"point_weights: {key!r} has {list(values)}; weights must be at least 0, and one must be above 0"
            )
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
    derivation: Derivation, compared: Mapping[str, tuple[str, str]], cells: Iterable[tuple[str, tuple[int, ...]]]
) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    layouts: dict[str, Layout] = {}
    for tensor, index in dict.fromkeys(cells):
        if tensor not in layouts:
            layouts[tensor] = derivation.layouts.of(tensor)
        node, inside = compared[tensor]
        point = replace(_point(tensor, layouts[tensor], index, derivation), node=node, inside=inside)
        for group in point.groups:
            found.setdefault(group, []).append(point)
    return found


def _inside(derivation: Derivation, compared: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Cells of tensors inside operations."""
    for tensor, (_, inside) in compared.items():
        if inside:
            yield from ((tensor, cell) for cell in derivation.resolution.layouts[tensor].cells())


def _contracted(derivation: Derivation, compared: Container[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Cells of activations in which an operation sums over a group."""
    free = {kind for kind, bundle in derivation.grouping.bundles.of.items() if bundle.free}
    for instance in derivation.resolution.instances:
        for operand in instance.operands:
            for (variable, _), occurrence in operand.items():
                is_summed = variable in instance.relation.contracted and occurrence.tensor in compared
                if is_summed and derivation.resolution.factors.find(occurrence) in free:
                    yield occurrence.tensor, occurrence.cell


def _activations(derivation: Derivation) -> dict[str, tuple[str, str]]:
    """Tensor -> the node that computes it, and its label if it is inside the node: tensors that depend on inputs and on
    parameters, and have elements."""
    carriers, fed = dict[str, tuple[str, str]](), set[str]()
    for node in derivation.program.graph.graph.nodes:
        feed = derivation.program.feeds.get(node.name)
        if (feed is not None and feed.kind == "input") or any(before.name in fed for before in node.all_input_nodes):
            fed.add(node.name)
            if _tells_nothing(node):
                continue
            carriers[node.name] = node.name, ""
            if node.target is operator.getitem:
                carriers[f"{node.args[0].name}:{node.args[1]}"] = node.name, ""
            for label in LABELS.get(op_name(node.target), ()):
                carriers[f"{node.name}:0:{label}"] = node.name, label
    found = {}
    for name in derivation.resolution.layouts:
        value = derivation.trace.values[name]
        known = value.counted and 0 not in value.shape
        if name in carriers and value.kind == "activation" and value.uses_parameters and known:
            found[name] = carriers[name]
    return found


def _tells_nothing(node: fx.Node) -> bool:
    """Whether a result is not computed yet, or partly filled with a constant that means "no value"."""
    fills = (argument for argument in node.args if isinstance(argument, float))
    return op_name(node.target) in MEMORY or any(abs(number) > LARGEST_FILL for number in fills)


def _point(tensor: str, layout: Layout, index: tuple[int, ...], derivation: Derivation) -> Point:
    places = derivation.resolution.layouts[tensor]
    cell = layout.cells[list(places.cells()).index(index)]
    cell = cell.with_leaves(range(len(layout.shape)))
    units = axes_of(cell, [move for move in cell.moves if move.leaves], derivation.dependencies)
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
