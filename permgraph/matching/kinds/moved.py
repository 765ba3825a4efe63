"""B under an element, beside A: its tensors, and their inner products with A's, computed again where B has moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.kinds.crosses import inner
from permgraph.symmetry.elements.permutations import Permutations, followed
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass
class Moved:
    """B under an element that grows step by step.

    If weights are read on demand, the passes over them count: B is moved from its `source` by one element, which starts
    with `begun`, and what a step adds to <A, B> is taken from the step where it is known.
    """

    spec: PermutationSpec
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    source: Mapping[str, Tensor] | None = None
    begun: Mapping[str, Any] | None = None
    dtype: torch.dtype = torch.float32
    element: Permutations = field(init=False)
    state: Mapping[str, Tensor] = field(init=False)
    moves: Counter[str] = field(default_factory=Counter)
    waiting: Set[str] = frozenset()
    solved: set[str] = field(default_factory=set)
    known_value: float | None = None
    _inner: dict[str, tuple[tuple[int, torch.dtype], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.element, self.state = self.spec.identity(), self.b

    @property
    def on_demand(self) -> bool:
        """Whether weights are read when they are needed."""
        return isinstance(self.b, LazyState)

    def apply(self, found: Mapping[str, Any], gain: float | None = None) -> None:
        """Move B further by these parts; `gain` is what that adds to the value, where it is known."""
        known = self.known_value
        self.known_value = None if known is None or gain is None else known + gain
        self.element = followed(self.spec.groups, self.element, found)
        layouts = self.spec.layouts.items()
        changed = [n for n, one in layouts if n not in self.waiting and not found.keys().isdisjoint(one.groups)]
        self.moves.update(changed)
        self.solved.update(found)
        if self.on_demand:
            self.state = self.under(self.element)
        else:
            moved = {name: self.spec.apply_one(found, name, self.state[name], self.dtype) for name in changed}
            self.state = {**self.state, **moved}

    def under(self, element: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """B's tensors on demand, each read from its source and moved by one element."""
        source, begun = self.b if self.source is None else self.source, self.begun
        assert isinstance(source, LazyState)
        own = {name: part for name, part in element.items() if name in self.solved}
        whole = own if begun is None else followed(self.spec.groups, begun, own)
        return self.spec.on_demand(whole, source, self.dtype)

    def wait(self, names: Set[str]) -> None:
        """Leave these tensors as they are until `go_on`."""
        self.waiting = names

    def go_on(self) -> None:
        """Move the tensors that waited by all that was found."""
        late = {name: self.spec.apply_one(self.element, name, self.b[name], self.dtype) for name in self.waiting}
        self.waiting, self.state = frozenset(), {**self.state, **late}
        self._inner.clear()

    def refine(self) -> bool:
        """Compute B with all digits that are stored; whether that changes anything."""
        exact = self.b.least if isinstance(self.b, LazyState) else torch.float64
        if exact == self.dtype:
            return False
        self.dtype = exact
        self.state = self.under(self.element) if self.on_demand else self.spec.apply(self.element, self.b)
        return True

    def value(self, names: Iterable[str]) -> float:
        """Σ <θ_A, g θ_B> over these tensors, all that count."""
        if self.known_value is not None:
            return self.known_value
        value = self.product(names)
        self.known_value = value if self.on_demand else None
        return value

    def product(self, names: Iterable[str]) -> float:
        """Σ <θ_A, g θ_B> over some tensors."""
        return sum(map(self._product_of, names))

    def _product_of(self, name: str) -> float:
        now = self.moves[name], self.dtype
        if self._inner.get(name, (None, 0.0))[0] != now:
            self._inner[name] = now, inner(name, self.a, self.state)[1]
        return self._inner[name][1]
