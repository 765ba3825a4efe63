"""Large matrices that can be read a few rows at a time: tables of embeddings, and heads over a vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, fx
from torch.nn import functional

from permgraph.tracing.program import Program, op_name

AT_ONCE = 2**22
"""A matrix of more elements is read by rows, this many elements at a time."""
TABLE = {"aten.embedding": 0, "aten.linear": 1}
"""Operation -> the number of the argument that it takes by rows."""


@dataclass(frozen=True)
class ByRows:
    """A placeholder in a graph for a matrix that is read by rows: `make(rows)` makes the rows of an index vector."""

    count: int
    size: int
    make: Callable[[Tensor], Tensor]

    def result(self, operation: str, *args: Tensor) -> Tensor:
        """The result of an operation of `TABLE` with this matrix and its other tensors, in order."""
        return self._looked_up(args[0]) if operation == "aten.embedding" else self._applied(*args)

    def _looked_up(self, index: Tensor) -> Tensor:
        rows, place = torch.unique(index, return_inverse=True)
        return functional.embedding(place, self.make(rows))

    def _applied(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        parts = torch.split(torch.arange(self.count, device=x.device), max(1, AT_ONCE // self.size))
        return torch.cat(
            [functional.linear(x, self.make(rows), None if bias is None else bias[rows]) for rows in parts], -1
        )


def by_rows(program: Program) -> frozenset[str]:
    """Names of the large matrices that every operation of a program takes by rows."""
    found = set()
    for node in program.graph.graph.nodes:
        if node.op == "placeholder" and (name := program.feeds[node.name].name) in program.names:
            shape = program.shapes[name]
            if len(shape) == 2 and prod(shape) > AT_ONCE and all(_takes_rows(user, node) for user in node.users):
                found.add(name)
    return frozenset(found)


def _takes_rows(user: fx.Node, matrix: fx.Node) -> bool:
    number = TABLE.get(op_name(user.target))
    return number is not None and [k for k, arg in enumerate(user.args) if arg is matrix] == [number]
