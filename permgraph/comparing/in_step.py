"""Weights for several runs of one program in step: each weight is read once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from permgraph.checkpoints.lazy_state import LazyState, index_of
from permgraph.tracing.by_rows import by_rows
from permgraph.tracing.program import Program


@dataclass(eq=False)
class InStep:
    """The weights of a model for `count` runs: read when the first run needs it, freed after the last."""

    state: Mapping[str, Tensor]
    count: int
    held: dict[str, tuple[Tensor, int]] = field(default_factory=dict)

    def __call__(self, name: str, rows: Tensor | None = None) -> Tensor:
        """The weight of a name, or these rows of it."""
        if rows is not None:
            return index_of(self.state, name, rows)
        tensor, left = self.held.pop(name) if name in self.held else (self.state[name], self.count)
        if left > 1:
            self.held[name] = tensor, left - 1
        return tensor

    def by_rows(self, program: Program) -> frozenset[str]:
        """Names of the weights of which only rows are read, if the weights are in files."""
        return by_rows(program) if isinstance(self.state, LazyState) else frozenset()
