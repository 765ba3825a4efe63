"""Ties as a networkx graph: nodes are factors at a place of a tensor, edges are operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.relations import Source

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Node:
    """A factor at one place: its tensor, dimension, size, and the group that moves it ("" for none)."""

    occurrence: Occurrence
    kind: str
    size: int
    group: str

    @property
    def axis(self) -> tuple[str, int]:
        """(tensor, dim)."""
        return self.occurrence.tensor, self.occurrence.dim


@dataclass(frozen=True)
class TieGraph:
    """Nodes, ties between them by index with the number of their source, and pins.

    `aliases` maps state-dict keys to the one under which the graph knows the same tensor, where they differ.
    """

    nodes: tuple[Node, ...]
    sources: tuple[Source, ...]
    ties: tuple[tuple[int, int, int], ...]
    pins: tuple[tuple[int, str], ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def networkx(self) -> nx.Graph:
        """Nodes carry `tensor`, `dim`, `kind`, `size`, `group`, `pinned`; edges `op`, `module`, `line`.

        Connected components are the factors, cell by cell: a group that is the product of several factors is several
        components with one `group`.
        """
        import networkx as nx

        graph = nx.Graph()
        for k, node in enumerate(self.nodes):
            tensor, dim = node.axis
            graph.add_node(k, tensor=tensor, dim=dim, kind=node.kind, size=node.size, group=node.group, pinned="")
        for a, b, source in self.ties:
            where = self.sources[source]
            graph.add_edge(a, b, op=where.op, module=where.module, line=where.line)
        for k, why in self.pins:
            graph.nodes[k]["pinned"] = graph.nodes[k]["pinned"] or why
        return graph

    def at(self, axis: tuple[str, int]) -> list[int]:
        """Numbers of the nodes that sit on an axis."""
        tensor, dim = axis
        return self._by_axis.get((self.aliases.get(tensor, tensor), dim), [])

    @cached_property
    def _by_axis(self) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for k, node in enumerate(self.nodes):
            found.setdefault(node.axis, []).append(k)
        return found

    def to_data(self) -> dict[str, Any]:
        """Plain lists for JSON."""
        return {
            "nodes": [
                [
                    n.occurrence.tensor,
                    n.occurrence.cell,
                    n.occurrence.dim,
                    n.occurrence.position,
                    n.kind,
                    n.size,
                    n.group,
                ]
                for n in self.nodes
            ],
            "sources": [[s.op, s.module, s.line] for s in self.sources],
            "ties": self.ties,
            "pins": self.pins,
            "aliases": dict(self.aliases),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> TieGraph:
        """The inverse of `to_data`."""
        return cls(
            tuple(
                Node(Occurrence(tensor, tuple(cell), dim, position), kind, size, group)
                for tensor, cell, dim, position, kind, size, group in data["nodes"]
            ),
            tuple(Source(*item) for item in data["sources"]),
            tuple((a, b, s) for a, b, s in data["ties"]),
            tuple((k, why) for k, why in data["pins"]),
            dict(data["aliases"]),
        )
