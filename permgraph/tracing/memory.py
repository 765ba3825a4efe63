"""Which tensors of a graph share memory, and which of them are written to in place."""

from __future__ import annotations

from torch import fx

from permgraph.tracing.capture import op_name

SAME_IN_EVAL = ("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.type_as")


def written_to(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose memory some operation writes to, at any time and through any view: they hold anything."""
    base: dict[fx.Node, fx.Node] = {}

    def find(node: fx.Node) -> fx.Node:
        while node in base:
            node = base[node]
        return node

    targets = []
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        own, written = _memory(node)
        targets += written
        for other in own:
            if find(node) is not find(other):
                base[find(node)] = find(other)
    roots = {find(node) for node in targets}
    return {node for node in graph.nodes if find(node) in roots}


def _memory(node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The operands that a result may share its memory with, and those that the operation writes to."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or op_name(node.target).removesuffix("_") in SAME_IN_EVAL:
        return list(node.all_input_nodes), []
    shared: list[fx.Node] = []
    written: list[fx.Node] = []
    for argument, value in zip(schema.arguments, node.args, strict=False):
        if argument.alias_info is not None:
            nodes = [x for x in (value if isinstance(value, list | tuple) else [value]) if isinstance(x, fx.Node)]
            shared += nodes
            written += nodes if argument.alias_info.is_write else []
    return shared, written
