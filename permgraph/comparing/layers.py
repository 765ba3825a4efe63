"""The linear and convolution layers of a traced program, as matrices applied to rows of inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from permgraph.tracing.program import Program, op_name

LINEAR = {"aten.linear": ("input", "weight", "bias"), "aten.addmm": ("mat1", "mat2", "self")}
PRODUCT = {"aten.matmul": ("self", "other"), "aten.mm": ("self", "mat2")}
CONVOLUTION = ("aten.conv1d", "aten.conv2d", "aten.conv3d")
TRANSPOSES = ("aten.t", "aten.transpose", "aten.permute", "aten.numpy_T", "aten.mT")


@dataclass(frozen=True)
class Sliding:
    """Padding before and after the input, stride, dilation and kernel size of a convolution, per spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def patches(self, x: Tensor) -> Tensor:
        """[groups, frames, in/groups · kernel]: what the kernel sees at every place; x is [batch, in, *space]."""
        pads = [side for pair in reversed(self.padding) for side in pair]
        x = torch.nn.functional.pad(x, pads)
        for k, (size, step, gap) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            x = x.unfold(2 + k, gap * (size - 1) + 1, step)[..., ::gap]
        batch, channels, *rest = x.shape
        count = len(self.kernel)
        x = x.reshape(batch, self.groups, channels // self.groups, *rest)
        order = [1, 0, *range(3, 3 + count), 2, *range(3 + count, 3 + 2 * count)]
        return x.permute(order).reshape(self.groups, batch * prod(rest[:count]), -1)


@dataclass(frozen=True)
class AffineLayer:
    """y = W x + b at one node of the graph.

    `weight` and `bias` are names of the graph, `source` the node of x. `flipped`: the weight is [in, out], as in
    GPT-2, not [out, in]. `channel` is the dimension of y that has the outputs.
    """

    node: str
    source: str
    weight: str
    bias: str | None
    flipped: bool = False
    sliding: Sliding | None = None

    @property
    def channel(self) -> int:
        """The dimension of the output that counts its units."""
        return -1 if self.sliding is None else 1

    @property
    def out_dim(self) -> int:
        """The dimension of the weight that counts the output's units."""
        return 1 if self.flipped else 0

    def rows(self, x: Tensor) -> Tensor:
        """[groups, frames, in]: what the matrix is applied to; a linear layer has one group."""
        return x.reshape(1, -1, x.shape[-1]) if self.sliding is None else self.sliding.patches(x)

    def matrix(self, weight: Tensor) -> Tensor:
        """[groups, out, in]."""
        if self.sliding is None:
            return (weight.T if self.flipped else weight).unsqueeze(0)
        return weight.reshape(self.sliding.groups, weight.shape[0] // self.sliding.groups, -1)

    def restored(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """The weight that has this matrix."""
        return (matrix[0].T if self.flipped else matrix).reshape(shape).contiguous()

    def outputs(self, y: Tensor) -> Tensor:
        """[frames, out]: the output, a row a frame."""
        return y.movedim(self.channel, -1).flatten(0, -2)


@dataclass(frozen=True)
class Layers:
    """The layers whose weights no other operation reads, by weight; `left` says why others are left out."""

    found: Mapping[str, tuple[AffineLayer, ...]]
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def single(self) -> Iterator[AffineLayer]:
        """The layers whose weight and bias are used once."""
        return (uses[0] for uses in self.found.values() if len(uses) == 1)


def find_layers(program: Program) -> Layers:
    """All linear and convolution layers of a program whose weight is a parameter.

    A weight that is used several times is kept if all uses are layers of one kind with one bias; a tied embedding, or
    a weight that is computed from others (weight norm), is left out, with the reason.
    """
    nodes = list(program.graph.graph.nodes)
    places = {node: program.feeds[node.name].name for node in nodes if node.op == "placeholder"}
    stored = {node: name for node, name in places.items() if program.feeds[node.name].kind == "parameter"}
    uses: dict[str, list[AffineLayer]] = {}
    left: dict[str, str] = {}
    for node in nodes:
        layer = _layer(node, stored) if node.op == "call_function" else None
        if layer is not None:
            uses.setdefault(layer.weight, []).append(layer)
        elif node.op == "call_function" and op_name(node.target) in (*LINEAR, *CONVOLUTION):
            left[node.name] = "its weight is computed from other parameters"
    readers: dict[str, set[str]] = {name: set() for name in stored.values()}
    for node, name in stored.items():
        readers[name] |= {user.name for user in _readers(node)}
    for weight, layers in list(uses.items()):
        names = {layer.node for layer in layers}
        biases = {layer.bias for layer in layers}
        kinds = {(layer.flipped, layer.sliding) for layer in layers}
        shared = [name for name in (weight, *filter(None, biases)) if readers[name] - names]
        if shared or len(biases) > 1 or len(kinds) > 1:
            left |= dict.fromkeys(names, f"{(shared or [weight])[0]} is used in another way too")
            del uses[weight]
    return Layers({weight: tuple(layers) for weight, layers in uses.items()}, left)


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    """The operations that read a weight, directly or transposed."""
    for user in node.users:
        yield from _readers(user) if op_name(user.target) in TRANSPOSES else (user,)


def _layer(node: fx.Node, stored: Mapping[fx.Node, str]) -> AffineLayer | None:
    op, given = op_name(node.target), bound(node)
    if op in LINEAR:
        source, weight, bias = (given[name] for name in LINEAR[op])
        plain = all(given.get(name, 1) == 1 for name in ("beta", "alpha"))
    elif op in PRODUCT:
        (source, weight), bias, plain = (given[name] for name in PRODUCT[op]), None, True
    elif op in CONVOLUTION:
        source, weight, bias, plain = given["input"], given["weight"], given["bias"], True
    else:
        return None
    flipped = op != "aten.linear" and op not in CONVOLUTION
    while isinstance(weight, fx.Node) and op_name(weight.target) in TRANSPOSES and op not in CONVOLUTION:
        flipped, weight = not flipped, weight.args[0]
    fits = weight in stored and (bias is None or bias in stored) and isinstance(source, fx.Node) and plain
    rank = weight.meta["val"].dim() if fits else 0
    if not fits or (source.meta["val"].dim() != rank if op in CONVOLUTION else rank != 2):
        return None
    sliding = _sliding(given, weight.meta["val"].shape) if op in CONVOLUTION else None
    return AffineLayer(node.name, source.name, stored[weight], stored.get(bias), flipped, sliding)


def bound(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operation by the names in its schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    found = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    return found | dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)


def _sliding(given: Mapping[str, Any], shape: torch.Size) -> Sliding:
    kernel = tuple(shape[2:])
    stride, dilation = (_each(given[name], len(kernel)) for name in ("stride", "dilation"))
    padding = given["padding"]
    if padding == "valid":
        sides: tuple[tuple[int, int], ...] = ((0, 0),) * len(kernel)
    elif padding == "same":  # PyTorch puts the odd zero after the input
        spans = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        sides = tuple((span // 2, span - span // 2) for span in spans)
    else:
        sides = tuple((side, side) for side in _each(padding, len(kernel)))
    return Sliding(kernel, stride, sides, dilation, given["groups"])


def _each(value: Any, count: int) -> tuple[int, ...]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * count if len(sizes) == 1 else sizes
