"""Finds in the graph of A the axes whose length may differ in B: channels of an input, rows of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from permgraph.matching.borders import CHANNELS, POSITIONS, Border
from permgraph.matching.grids import SAME_NUMBERS, TABLES, Grid, grid_of
from permgraph.tracing.program import Program, op_name

Shapes = Mapping[str, tuple[int, ...]]
CONVOLUTIONS = ("aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution")
PARTS = ("aten.slice", "aten.narrow")


@dataclass(frozen=True)
class Differing:
    """An axis that is longer in one model; `other` is B's name of the tensor."""

    name: str
    other: str
    dim: int
    a: int
    b: int


def differing(a: Shapes, b: Shapes, names: Mapping[str, str]) -> tuple[Differing, ...]:
    """The axes of tensors with as many dimensions in both whose lengths differ; `names`: name in A -> name in B."""
    return tuple(
        Differing(name, other, dim, here, there)
        for name, other in names.items()
        if len(a[name]) == len(b[other])
        for dim, (here, there) in enumerate(zip(a[name], b[other], strict=True))
        if here != there
    )


def borders_in(program: Program, found: tuple[Differing, ...]) -> tuple[Border, ...]:
    """The borders among the axes that differ; other axes are left for the match to refuse."""
    groups: dict[tuple[str | Grid, int, int, int], list[Differing]] = {}
    for axis in found:
        if kind := _kind(program, axis):
            groups.setdefault((kind, axis.a, axis.b, axis.dim), []).append(axis)
    return tuple(_border(kind, a, b, axes) for (kind, a, b, _), axes in groups.items())


def _border(kind: str | Grid, a: int, b: int, axes: list[Differing]) -> Border:
    places, through = torch.arange(a, device="cpu"), None
    if isinstance(kind, Grid):
        rule, through = kind.rule, kind.matrix()
    elif kind == CHANNELS and {a, b} == {1, 3}:
        rule, through = _grey_rule(a), torch.full((a, b), 1 / a, dtype=torch.float32, device="cpu")
    else:
        rule = _rule(a, b)
    return Border(
        POSITIONS if isinstance(kind, Grid) else kind,
        rule,
        {axis.name: axis.dim for axis in axes},
        {axis.other: axis.dim for axis in axes},
        places,
        torch.where(places < min(a, b), places, -1)
        if through is None
        else torch.zeros(a, dtype=torch.long, device="cpu"),
        a,
        b,
        through,
    )


def _rule(a: int, b: int) -> str:
    rest = f"the last {a - b} kept from A" if a > b else f"the last {b - a} of B left out"
    return f"the first {min(a, b)} are the same in both and merged, {rest}"


def _grey_rule(a: int) -> str:
    if a == 1:
        return "A reads grey and B colours: the sum of B's three is merged with A's one, B on grey images"
    return "A reads colours and B grey: a third of B's one is merged with each of A's, B on the mean of colours"


def _kind(program: Program, axis: Differing) -> str | Grid | None:
    place = program.names.get(axis.name, axis.name)
    nodes = [n for n in program.graph.graph.nodes if n.name in program.feeds and program.feeds[n.name].name == place]
    users = [(node, user) for node in nodes for user in node.users]
    if not users:
        return None
    if all(_reads_input(user, node, axis.dim, program) for node, user in users):
        return CHANNELS
    grids = {grid_of(node, axis.a, axis.b) for node in nodes}
    if len(grids) == 1 and None not in grids:
        return grids.pop()
    return POSITIONS if all(_reads_positions(user, node, axis.dim, program) for node, user in users) else None


def _reads_input(user: fx.Node, weight: fx.Node, dim: int, program: Program) -> bool:
    """Whether `user` is a convolution that reads an input before any parameter acts on it, along its channels."""
    if op_name(user.target) not in CONVOLUTIONS or dim != 1 or user.args[1] is not weight:
        return False
    return not any(program.feeds[node.name].kind in ("parameter", "buffer") for node in _behind(user.args[0], program))


def _reads_positions(user: fx.Node, table: fx.Node, dim: int, program: Program) -> bool:
    """Whether the rows of a table are looked up by numbers that are not an input's own, or its first rows are read."""
    if op_name(user.target) in TABLES:
        return dim == 0 and user.args[0] is table and not _is_input(user.args[1], program)
    return _first_part(user, dim)


def _first_part(user: fx.Node, dim: int) -> bool:
    if op_name(user.target) not in PARTS:
        return False
    given = [*user.args, *(user.kwargs.values())]
    rank = user.args[0].meta["val"].dim() if isinstance(user.args[0], fx.Node) else 0
    axis: Any = given[1] if len(given) > 1 else 0
    axis %= rank
    if axis != dim:
        return bool(user.users) and all(_first_part(later, dim) for later in user.users)
    return (given[2] if len(given) > 2 else 0) in (0, None)


def _is_input(node: object, program: Program) -> bool:
    """Whether a node holds the very numbers of an input."""
    while isinstance(node, fx.Node) and node.op == "call_function" and op_name(node.target) in SAME_NUMBERS:
        node = node.args[0]
    return isinstance(node, fx.Node) and node.name in program.feeds and program.feeds[node.name].kind == "input"


def _behind(node: object, program: Program) -> Iterator[fx.Node]:
    """The placeholders that a node is computed from."""
    waiting, seen = [node], set[fx.Node]()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, fx.Node) or one in seen:
            continue
        seen.add(one)
        if one.name in program.feeds:
            yield one
        waiting += one.all_input_nodes


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
