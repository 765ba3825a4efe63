"""The order in which the forward pass uses its weights, and which weights act on the results of others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import fx

from permgraph.tracing.program import Program


@dataclass(frozen=True)
class Flow:
    """The order of weights in a program, by their names in the graph."""

    program: Program

    @cached_property
    def _users(self) -> dict[str, list[fx.Node]]:
        places = [node for node in self.program.graph.graph.nodes if node.op == "placeholder"]
        return {self.program.feeds[node.name].name: list(node.users) for node in places}

    @cached_property
    def _number(self) -> dict[fx.Node, int]:
        return {node: k for k, node in enumerate(self.program.graph.graph.nodes)}

    def first_use(self, name: str) -> int:
        """The number of the first operation that takes a weight."""
        return min((self._number[node] for node in self._users.get(name, ())), default=len(self._number))

    def follows(self, name: str, other: str) -> bool:
        """Whether every operation that takes a weight depends on one that takes the other."""
        first = set(self._users.get(other, ()))
        mine = self._users.get(name, [])
        return bool(mine) and all(node not in first and bool(self._before(node) & first) for node in mine)

    def _before(self, node: fx.Node) -> set[fx.Node]:
        """All nodes that a node depends on."""
        found: set[fx.Node] = set()
        waiting = list(node.all_input_nodes)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += one.all_input_nodes
        return found
