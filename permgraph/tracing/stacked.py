"""Stacked recurrent layers are one operation of an export, and one operation for each layer in a program.

So what one layer hands to the next is a tensor of the program, in which units can be compared.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from permgraph.tracing.program import op_name
from permgraph.tracing.values import bound_arguments

STACKED = ("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu")


def one_layer_each(graph: fx.Graph) -> None:
    """Replace every operation of several layers, but for those that draw what they drop between layers."""
    for node in list(graph.nodes):
        given = bound_arguments(node, lambda argument: argument) if op_name(node.target) in STACKED else {}
        if "input" not in given or given["num_layers"] == 1 or (given["train"] and given["dropout"]):
            continue
        with graph.inserting_before(node):
            layers = _layers(graph, node, given)
            for user in list(node.users):
                if user.users:
                    user.replace_all_uses_with(_result(graph, node, layers, user.args[1]))
                graph.erase_node(user)
        graph.erase_node(node)


def _layers(graph: fx.Graph, node: fx.Node, given: dict[str, Any]) -> list[fx.Node]:
    """An operation for each layer, of which each reads the outputs of the one before."""
    count, width = given["num_layers"], 2 if given["bidirectional"] else 1
    several, each = isinstance(given["hx"], list | tuple), len(given["params"]) // count
    found: list[fx.Node] = []
    for k in range(count):
        states = [
            _call(graph, node, torch.ops.aten.slice.Tensor, state, 0, k * width, (k + 1) * width)
            for state in (given["hx"] if several else [given["hx"]])
        ]
        own = {
            "input": _call(graph, node, operator.getitem, found[-1], 0) if found else given["input"],
            "hx": states if several else states[0],
            "params": given["params"][k * each : (k + 1) * each],
            "num_layers": 1,
        }
        found.append(_call(graph, node, node.target, *(given | own).values()))
    return found


def _result(graph: fx.Graph, node: fx.Node, layers: list[fx.Node], number: Any) -> fx.Node:
    """The outputs of the last layer, or the last states of all."""
    parts = [_call(graph, node, operator.getitem, layer, number) for layer in (layers if number else layers[-1:])]
    return _call(graph, node, torch.ops.aten.cat.default, parts, 0) if number else parts[0]


def _call(graph: fx.Graph, node: fx.Node, target: Any, *args: Any) -> fx.Node:
    """A call in the place of `node`, with the metadata that an export gives it."""
    made = graph.create_node("call_function", target, args, name=op_name(target).removeprefix("aten."))
    values = fx.node.map_arg(args, lambda argument: argument.meta["val"])
    with torch.no_grad():
        made.meta = {**node.meta, "val": target(*values)}
    return made
