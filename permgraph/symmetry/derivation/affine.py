"""Affine images of parameters: maps such as the 1 + w of some norms, through which all operations read a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx

from permgraph.tracing.program import Program, op_name

SAME = ("aten.to", "aten._to_copy", "aten.alias", "aten.clone", "aten.contiguous", "aten.detach", "aten.positive")
CHECK = "aten._assert_tensor_metadata"


@dataclass(frozen=True)
class Affine:
    """w -> offset + slope w, with a slope that is not 0."""

    offset: float = 0.0
    slope: float = 1.0

    def __call__(self, w: Tensor) -> Tensor:
        """The image of all elements, in float64."""
        return self.offset + self.slope * w.double()

    @property
    def neutral(self) -> float:
        """The number whose image is 1."""
        return (1 - self.offset) / self.slope


@dataclass(frozen=True)
class Image:
    """The affine image through which all other operations read a parameter; `nodes` are those of the map itself."""

    map: Affine = Affine()
    nodes: frozenset[str] = frozenset()


def images(program: Program) -> dict[str, Image]:
    """Vector parameter -> its image, if all readers read the same image."""
    found: dict[str, Image] = {}
    for node in program.graph.graph.nodes:
        feed = program.feeds.get(node.name) if node.op == "placeholder" else None
        if feed is None or feed.kind != "parameter" or not is_vector(program.shapes[feed.name]):
            continue
        made, read = dict[fx.Node, Affine](), set[Affine]()
        for one, image in _followed(node, Affine()):
            made[one] = image
            read |= {image} if any(map(_reads, one.users)) else set()
        if len(read) == 1:
            found[feed.name] = Image(read.pop(), frozenset(one.name for one in made) - {node.name})
    return found


def is_vector(shape: Iterable[int]) -> bool:
    """Whether no more than one dimension has more than one element."""
    return sum(size > 1 for size in shape) <= 1


def through_images(program: Program, found: Mapping[str, Image]) -> Program:
    """The program whose parameters are these images: a reader of an image reads the parameter in its place."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    inner = {name: parameter for parameter, image in found.items() for name in image.nodes}
    places: dict[str, fx.Node] = {}
    for node in program.graph.graph.nodes:
        if node.name in inner:
            copies[node] = places[inner[node.name]]
            continue
        copies[node] = graph.node_copy(node, copies.__getitem__)
        copies[node].name = node.name  # a copy of `input` would have another
        if node.op == "placeholder" and node.name in program.feeds:
            places.setdefault(program.feeds[node.name].name, copies[node])
    return replace(program, graph=fx.GraphModule(program.graph, graph))


def uniform_among(program: Program, states: Iterable[Mapping[str, Tensor]]) -> tuple[str, ...]:
    """The vectors whose elements all have one value in each of the states, with an image that is not 0."""
    given = list(states)
    return tuple(
        name
        for name, image in images(program).items()
        if all(name in state and _is_uniform(state[name].detach(), image.map) for state in given)
    )


def _is_uniform(vector: Tensor, map_: Affine) -> bool:
    if vector.is_meta or vector.numel() < 2:
        return False
    first = vector.reshape(-1)[:1]
    return bool(map_(first) != 0) and bool((vector == first).all())


def _followed(node: fx.Node, image: Affine) -> Iterator[tuple[fx.Node, Affine]]:
    """A node and all affine images of it."""
    yield node, image
    for user in node.users:
        if (further := _step(user, image)) is not None:
            yield from _followed(user, further)


def _reads(user: fx.Node) -> bool:
    """Whether a node computes something else than an affine image of its operand."""
    return op_name(user.target) != CHECK and _step(user, Affine()) is None


def _step(node: fx.Node, x: Affine) -> Affine | None:
    """The image that a node computes from the image that it reads; None if it computes something else."""
    op, inputs = op_name(node.target), node.all_input_nodes
    if node.op != "call_function" or len(inputs) != 1 or node.args[:1] == () or not _is_floating(node):
        return None
    if op in SAME:
        return x
    number = _number(node, inputs[0])
    if op in ("aten.neg", "aten.negative"):
        return Affine(-x.offset, -x.slope)
    if number is None:
        return None
    alpha = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
    if op == "aten.add" and isinstance(alpha, int | float):
        return Affine(x.offset + alpha * number, x.slope)
    if op == "aten.sub" and isinstance(alpha, int | float):
        return Affine(x.offset - alpha * number, x.slope)
    if op == "aten.rsub" and alpha == 1:
        return Affine(number - x.offset, -x.slope)
    if op == "aten.mul" and number:
        return Affine(x.offset * number, x.slope * number)
    if op == "aten.div" and number and "rounding_mode" not in node.kwargs:
        return Affine(x.offset / number, x.slope / number)
    return None


def _number(node: fx.Node, x: fx.Node) -> float | None:
    """The number that an operation takes as its second operand, after the tensor."""
    if node.args[0] is not x or len(node.args) < 2 or not isinstance(node.args[1], int | float):
        return None
    return float(node.args[1])


def _is_floating(node: fx.Node) -> bool:
    value: Any = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()
