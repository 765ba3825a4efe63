"""Which tensors of a graph share memory, and which of them are written to in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from permgraph.tracing.nesting import unwrapped
from permgraph.tracing.program import op_name

SAME_IN_EVAL = ("aten.alpha_dropout", "aten.dropout", "aten.feature_alpha_dropout", "aten.feature_dropout")
"""Operations that return their operand if they draw nothing; in a trace, their result is a new tensor."""
STATISTICS = ("running_mean", "running_var")
KEEPS_STATISTICS = {
    "aten.batch_norm": "training",
    "aten.instance_norm": "use_input_stats",
    "aten.native_batch_norm": "training",
}
"""Operation -> the argument with which it writes to its STATISTICS, of which its schema says nothing."""


@dataclass
class Writes:
    """The operands that an operation writes to.

    `returned`: operand -> number of the result that it is. `known`: operands whose new value the operation's rule
    describes. `other`: operands whose new value is unknown.
    """

    returned: dict[fx.Node, int] = field(default_factory=dict)
    other: list[fx.Node] = field(default_factory=list)
    known: list[fx.Node] = field(default_factory=list)

    @property
    def all(self) -> list[fx.Node]:
        """All of them."""
        return [*self.returned, *self.other, *self.known]


def writes(node: fx.Node) -> Writes:
    """The operands that an operation writes to, by its schema; a higher-order operation may write to all of them."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        is_opaque = isinstance(node.target, torch._ops.HigherOrderOperator)
        return Writes(other=list(node.all_input_nodes) if is_opaque else [])
    written, given = Writes(), dict(_arguments(node, schema))
    results = [result.alias_info for result in schema.returns]
    for argument in schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name in given:
            mark, value = argument.alias_info.before_set, given[argument.name]
            number = next((k for k, alias in enumerate(results) if alias and alias.before_set & mark), None)
            if number is not None and isinstance(value, fx.Node):
                written.returned[value] = number
            else:
                written.other += _nodes(value)
    if given.get(KEEPS_STATISTICS.get(op_name(node.target), "")):
        written.known += [given[name] for name in STATISTICS if isinstance(given.get(name), fx.Node)]
    return written


def written_to(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose memory some operation writes to, at any time and through any view: their values are unknown."""
    base: dict[Any, Any] = {}

    def find(node: Any) -> Any:
        while node in base:
            node = base[node]
        return node

    targets: list[fx.Node] = []
    for node in graph.nodes:
        targets += writes(node).all
        for other in (*_shared(node), *_storages(node)):
            if find(node) != find(other):
                base[find(node)] = find(other)
    roots = {find(node) for node in targets}
    return {node for node in graph.nodes if find(node) in roots}


def _shared(node: fx.Node) -> list[fx.Node]:
    """The operands that a result may share its memory with, by the schema; without a schema, all operands."""
    if node.op != "call_function":
        return []
    schema = getattr(node.target, "_schema", None)
    if schema is None or op_name(node.target).removesuffix("_") in SAME_IN_EVAL:
        return list(node.all_input_nodes)
    given = dict(_arguments(node, schema))
    aliases = [argument.name for argument in schema.arguments if argument.alias_info is not None]
    return [operand for name in aliases for operand in _nodes(given.get(name))]


def _storages(node: fx.Node) -> list[tuple[str, int]]:
    """Identifiers of the memory of the traced tensors; these also show aliases that no schema declares."""
    storages = []
    for value in pytree.tree_leaves(node.meta.get("val")):
        if isinstance(value, Tensor) and value.layout is torch.strided:
            storages.append(("storage", unwrapped(value).untyped_storage()._cdata))
    return storages


def _arguments(node: fx.Node, schema: Any) -> Iterator[tuple[str, Any]]:
    """(name in the schema, what is given for it), for the arguments that are given."""
    for k, argument in enumerate(schema.arguments):
        if k < len(node.args):
            yield argument.name, node.args[k]
        elif argument.name in node.kwargs:
            yield argument.name, node.kwargs[argument.name]


def _nodes(value: Any) -> list[fx.Node]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, fx.Node)]
