"""State dicts whose tensors are computed on access and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Rows = Callable[[str, int, int], Tensor]

AT_ONCE = 2**26
"""A tensor of more elements is processed a few rows at a time, if rows can be computed separately."""


@dataclass(frozen=True, eq=False)
class LazyState(Mapping[str, Tensor]):
    """`state[name]` is `make(name)`, computed anew each time.

    Attributes:
        like: the same tensors on meta, with shapes, dtypes and ties: tied tensors share one memory.
        make: the tensor of a name.
        part: rows start to stop of the tensor of a name; None if tensors can only be computed as a whole.

    """

    like: Mapping[str, Tensor]
    make: Callable[[str], Tensor] = field(repr=False)
    part: Rows | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.like:
            raise KeyError(name)
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.like)

    def __len__(self) -> int:
        return len(self.like)

    def __contains__(self, name: object) -> bool:
        return name in self.like

    def below(self, prefix: str, names: Iterable[str]) -> LazyState:
        """The tensors of the names that begin with `prefix`, by these names without it."""
        known = {name: self.like[f"{prefix}{name}"] for name in names}
        return LazyState(
            known, lambda name: self[f"{prefix}{name}"], lambda name, *rows: self.rows(prefix + name, *rows)
        )

    def replaced(self, given: Mapping[str, Tensor]) -> LazyState:
        """The same with these tensors in place of those of their names."""
        return LazyState(
            self.like,
            lambda name: given[name].clone() if name in given else self[name],
            lambda name, *rows: given[name][slice(*rows)] if name in given else self.rows(name, *rows),
        )

    def only(self, names: Iterable[str]) -> LazyState:
        """Those of these names."""
        return self.below("", names)

    def with_(self, other: Mapping[str, Tensor]) -> LazyState:
        """The same with the tensors of another such state in place of those of their names."""
        return LazyState(
            {**self.like, **like(other)},
            lambda name: other[name] if name in other else self[name],
            lambda name, *rows: rows_of(other, name, rows) if name in other else self.rows(name, *rows),
        )

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """`state[name][start:stop]`."""
        return self[name][start:stop] if self.part is None else self.part(name, start, stop)


def like(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors on meta with the names, shapes, dtypes and ties of a state dict, without computing any."""
    return state.like if isinstance(state, LazyState) else state


def rows_of(state: Mapping[str, Tensor], name: str, rows: tuple[int, int]) -> Tensor:
    """Rows of one tensor, without computing its other rows if possible."""
    return state.rows(name, *rows) if isinstance(state, LazyState) else state[name][slice(*rows)]


def index_of(state: Mapping[str, Tensor], name: str, rows: Tensor) -> Tensor:
    """Rows of one tensor by an index vector, without computing its other rows if possible."""
    if not isinstance(state, LazyState) or state.part is None:
        return state[name][rows]
    return torch.cat([state.rows(name, row, row + 1) for row in rows.tolist()])


def slabs_of(state: Mapping[str, Tensor], name: str) -> Iterator[Tensor]:
    """A tensor in consecutive parts of about `AT_ONCE` elements, each computed separately if possible."""
    known = like(state)[name]
    if not isinstance(state, LazyState) or state.part is None or known.numel() <= AT_ONCE:
        yield state[name]
        return
    step = max(1, AT_ONCE * len(known) // known.numel())
    for start in range(0, len(known), step):
        yield state.rows(name, start, min(start + step, len(known)))


def each_once(
    state: Mapping[str, Tensor], make: Callable[[str], Tensor], part: Rows | None = None
) -> Mapping[str, Tensor]:
    """`make(name)` for every name, once for tied names; on access if `state` is lazy.

    `part` computes rows separately, as in `LazyState`.
    """
    known = like(state)
    first: dict[Any, str] = {}
    for name, tensor in known.items():
        first.setdefault(memory_of(tensor), name)
    names = {name: first[memory_of(tensor)] for name, tensor in known.items()}
    if isinstance(state, LazyState):
        rows = None if part is None else lambda name, *rows: part(names[name], *rows)
        return LazyState(state.like, lambda name: make(names[name]), rows)
    done = {name: make(name) for name in first.values()}
    return {name: done[kept] for name, kept in names.items()}


def small_part(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The vectors and integers of a lazy state, with its matrices on meta, as a proof takes them; others unchanged."""
    if not isinstance(state, LazyState):
        return state
    known = state.like

    def make(name: str) -> Tensor:
        return known[name] if known[name].dim() > 1 and known[name].is_floating_point() else state[name]

    return LazyState(known, make)


def memory_of(value: Any) -> Any:
    """A key that is equal for tied tensors: `state_dict` returns a new object for every name of a tied weight."""
    if not isinstance(value, Tensor) or value.is_meta or not value.numel():
        return id(value)
    return value.data_ptr(), value.shape, value.stride(), value.dtype
