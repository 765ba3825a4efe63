"""A traced forward pass: its graph, what each of its inputs is, and whether two passes compute the same."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from permgraph.algebra.relations import Source
from permgraph.errors import SpecMismatchError
from permgraph.tracing.advice import source_line

OF_TRAINING = ("p", "dropout", "momentum")
"""Arguments of a dropout and of a batch norm that have no effect if the operation is told that it is not training."""


@dataclass(frozen=True)
class Feed:
    """The meaning of a placeholder of the graph.

    `kind` is parameter, buffer (persistent), constant, or input; `name` is the name in the state dict, or, for
    inputs, the place in (args, kwargs).
    """

    kind: str
    name: str


@dataclass(frozen=True)
class Program:
    """A traced forward pass.

    `feeds` maps placeholder names to what they are, in order; `constants` holds non-persistent buffers and
    lifted tensors; `names` maps every key of the state dict to the one under which the graph knows its tensor (tied
    weights have several keys); `outputs` are the names of the output leaves, `outputs_spec` their places in what the
    model returns; `device` is the model's.
    """

    graph: fx.GraphModule
    feeds: Mapping[str, Feed]
    constants: Mapping[str, Tensor]
    names: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs_spec: pytree.TreeSpec
    outputs_spec: pytree.TreeSpec
    device: torch.device

    @property
    def inputs(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The place in (args, kwargs) and the shape of each tensor that was traced, in order."""
        places = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        return tuple(
            (self.feeds[node.name].name, tuple(node.meta["val"].shape))
            for node in places
            if self.feeds[node.name].kind == "input" and isinstance(node.meta.get("val"), Tensor)
        )


def require_same(a: Program, b: Program) -> None:
    """Raise SpecMismatchError, naming the first difference, unless two programs compute the same."""
    for one, other in zip_longest(a.graph.graph.nodes, b.graph.graph.nodes):
        if one is None or other is None or _computed(one) != _computed(other):
            where = source_of(one if one is not None else other).module or "the model"
            left, right = ("nothing" if node is None else _described(node) for node in (one, other))
            raise SpecMismatchError(
                f"the two models compute differently in {where}: A has {left}, B has {right}; "
                "align models of one configuration"
            )
    for name, tensor in a.constants.items():
        if name not in b.constants or not _equal(tensor, b.constants[name]):
            raise SpecMismatchError(
                f"the two models differ in the constant {name}: align two models of one configuration"
            )


def _computed(node: fx.Node) -> tuple[str, ...]:
    """What a node computes: what it calls, and the arguments that matter."""
    return node.op, str(node.target), *(f"{name}={value!r}" for name, value in _arguments(node).items())


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a node by name, without those that only training reads if the node is not in training."""
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else [str(k) for k in range(len(node.args))]
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    called = str(node.target)
    off = given.get("train", given.get("training")) is False or "no_training" in called
    unread = OF_TRAINING if off and called.startswith("aten.") else ()
    return {name: value for name, value in given.items() if name not in unread}


def _described(node: fx.Node) -> str:
    given = ", ".join(f"{name}={value}" for name, value in _arguments(node).items())
    return f"{op_name(node.target)}({given})"


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.is_meta or b.is_meta or torch.equal(a, b.to(a.device)))


def source_of(node: fx.Node) -> Source:
    """The operation, the module path and the source line of a node."""
    stack = node.meta.get("nn_module_stack") or {}
    module = next(reversed([path for path, _ in stack.values()]), "") if stack else ""
    return Source(op_name(node.target), module, source_line(node.meta.get("stack_trace") or ""))


@functools.cache
def op_name(target: Any) -> str:
    """`aten.linear` for `torch.ops.aten.linear.default`."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket)
    return getattr(target, "__name__", str(target))
