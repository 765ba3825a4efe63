"""B under an element, beside A: its tensors, and their inner products with A's, computed again where B has moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.kinds.crosses import inner, joined
from permgraph.matching.kinds.terms import Cross
from permgraph.symmetry.elements.permutations import Permutations, followed
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass
class Moved:
    """B under an element that grows step by step; a tensor is moved when it is read, by all that was found since.

    If weights are read on demand, the passes over them count: B is moved from its `source` by one element, which starts
    with `begun`, and what a step adds to <A, B> is taken from the step where it is known. A tensor on which one
    rotation acts alone (`turning`), as an embedding, is not moved to be compared: its products follow from those with
    B unmoved.
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
    solved: set[str] = field(default_factory=set)
    known_value: float | None = None
    _inner: dict[str, tuple[tuple[int, torch.dtype], float]] = field(default_factory=dict)
    _tensors: dict[str, tuple[int, Tensor]] = field(default_factory=dict)
    _steps: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _unturned: dict[str, Cross] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.element, self.state = self.spec.identity(), self.b if self.on_demand else WhenRead(self)
        self.turning = {} if self.on_demand else {n: group for n in self.spec.layouts if (group := self._turns(n))}

    def _turns(self, name: str) -> str | None:
        """The rotation that alone acts on a tensor, one no smaller than the products of its units."""
        cells = self.spec.layouts[name].cells
        moves = [move for cell in cells for move in cell.moves]
        if len(cells) != 1 or len(moves) != 1:
            return None
        group = self.spec[moves[0].group]
        return (
            group.name if Kind(group.kind).mixes and not group.depends_on and cells[0].size >= group.size**2 else None
        )

    @property
    def on_demand(self) -> bool:
        """Whether weights are read when they are needed."""
        return isinstance(self.b, LazyState)

    def apply(self, found: Mapping[str, Any], gain: float | None = None) -> None:
        """Move B further by these parts; `gain` is what that adds to the value, where it is known."""
        known = self.known_value
        self.known_value = None if known is None or gain is None else known + gain
        self.element = followed(self.spec.groups, self.element, found)
        changed = [n for n, one in self.spec.layouts.items() if not found.keys().isdisjoint(one.groups)]
        self.moves.update(changed)
        self.solved.update(found)
        if self.on_demand:
            self.state = self.under(self.element)
        else:
            self._steps.update(dict.fromkeys(changed, found))

    def go_back(self, element: Permutations) -> None:
        """Move B by an earlier element again."""
        self.element, self.known_value = element, None
        for computed in (self._tensors, self._steps, self._inner):
            computed.clear()
        if self.on_demand:
            self.state = self.under(element)

    def tensor(self, name: str) -> Tensor:
        """One tensor of B under the element."""
        now, (then, tensor) = self.moves[name], self._tensors.get(name, (0, self.b[name]))
        if then < now:
            is_next = then == now - 1 and name in self._steps
            step, start = (self._steps[name], tensor) if is_next else (self.element, self.b[name])
            tensor = self.spec.apply_one(step, name, start, self.dtype)
            self._tensors[name] = now, tensor
        return tensor

    def turned(self, group: str, products: Mapping[str, Callable[[Mapping[str, Tensor]], Iterable[Cross]]]) -> Cross:
        """The products of `turning` tensors with A's: those with B unmoved, computed once, under the rotation."""
        for name in products.keys() - self._unturned.keys():
            [self._unturned[name]] = joined(products[name](self.b))
        first, *others = (self._unturned[name] for name in products)
        rotation = self.element[group].matrix.T.astype(first.matrix.dtype)
        return replace(first, matrix=sum((other.matrix for other in others), first.matrix) @ rotation)

    def under(self, element: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """B's tensors on demand, each read from its source and moved by one element."""
        source, begun = self.b if self.source is None else self.source, self.begun
        assert isinstance(source, LazyState)
        own = {name: part for name, part in element.items() if name in self.solved}
        whole = own if begun is None else followed(self.spec.groups, begun, own)
        return self.spec.on_demand(whole, source, self.dtype)

    def refine(self) -> bool:
        """Compute B with all digits that are stored; whether that changes anything."""
        exact = self.b.least if isinstance(self.b, LazyState) else torch.float64
        if exact == self.dtype:
            return False
        self.dtype = exact
        self._tensors.clear()
        self._unturned.clear()
        if self.on_demand:
            self.state = self.under(self.element)
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
            if name in self._unturned:
                rotation = self.element[self.turning[name]].matrix
                found = float(np.sum(self._unturned[name].matrix * rotation, dtype=np.float64))
            else:
                found = inner(name, self.a, self.state)
            self._inner[name] = now, found
        return self._inner[name][1]


@dataclass(frozen=True, eq=False)
class WhenRead(Mapping[str, Tensor]):
    """B's tensors, each moved when it is read."""

    moved: Moved

    def __getitem__(self, name: str) -> Tensor:
        return self.moved.tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.moved.b)

    def __len__(self) -> int:
        return len(self.moved.b)
