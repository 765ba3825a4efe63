"""State dicts whose tensors are computed on access and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Rows = Callable[[str, int, int], Tensor]

AT_ONCE = 2**22
"""A tensor of more elements is processed a few rows at a time, if rows can be computed separately."""


@dataclass(frozen=True, eq=False)
class LazyState(Mapping[str, Tensor]):
    """`state[name]` is `make(name)`, computed anew each time.

    Attributes:
        like: the same tensors on meta, with shapes, dtypes and ties: tied tensors share one memory.
        make: the tensor of a name.
        part: rows start to stop of the tensor of a name; None if tensors can only be computed as a whole.
        in_rows: whether `part` computes rows of a name without the others.
        least: the dtype in which products keep all digits that are stored.

    """

    like: Mapping[str, Tensor]
    make: Callable[[str], Tensor] = field(repr=False)
    part: Rows | None = field(default=None, repr=False)
    in_rows: Callable[[str], bool] = field(default=lambda name: True, repr=False)
    least: torch.dtype = torch.float64

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
        return replace(
            self,
            like={name: self.like[f"{prefix}{name}"] for name in names},
            make=lambda name: self[f"{prefix}{name}"],
            part=lambda name, *rows: self.rows(prefix + name, *rows),
            in_rows=lambda name: self.alone(prefix + name),
        )

    def replaced(self, given: Mapping[str, Tensor]) -> LazyState:
        """The same with these tensors in place of those of their names."""
        return replace(
            self,
            make=lambda name: given[name].clone() if name in given else self[name],
            part=lambda name, *rows: given[name][slice(*rows)] if name in given else self.rows(name, *rows),
            in_rows=lambda name: name in given or self.alone(name),
        )

    def only(self, names: Iterable[str]) -> LazyState:
        """Those of these names."""
        return self.below("", names)

    def with_(self, other: Mapping[str, Tensor]) -> LazyState:
        """The same with the tensors of another such state in place of those of their names."""
        return replace(
            self,
            like={**self.like, **like(other)},
            make=lambda name: other[name] if name in other else self[name],
            part=lambda name, *rows: rows_of(other, name, rows) if name in other else self.rows(name, *rows),
            in_rows=lambda name: alone(other, name) if name in other else self.alone(name),
        )

    def alone(self, name: str) -> bool:
        """Whether rows of the tensor of a name can be computed without the others."""
        return self.part is not None and self.in_rows(name)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """`state[name][start:stop]`."""
        return self[name][start:stop] if self.part is None else self.part(name, start, stop)


def like(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors on meta with the names, shapes, dtypes and ties of a state dict, without computing any."""
    return state.like if isinstance(state, LazyState) else state


def rows_of(state: Mapping[str, Tensor], name: str, rows: tuple[int, int]) -> Tensor:
    """Rows of one tensor, without computing its other rows if possible."""
    return state.rows(name, *rows) if isinstance(state, LazyState) else state[name][slice(*rows)]


def alone(state: Mapping[str, Tensor], name: str) -> bool:
    """Whether rows of one tensor can be computed without the others, or are there."""
    return state.alone(name) if isinstance(state, LazyState) else True


def index_of(state: Mapping[str, Tensor], name: str, rows: Tensor) -> Tensor:
    """Rows of one tensor by an index vector, without computing its other rows if possible."""
    if not isinstance(state, LazyState) or state.part is None:
        return state[name][rows]
    return torch.cat([state.rows(name, row, row + 1) for row in rows.tolist()])


def slabs_of(state: Mapping[str, Tensor], name: str) -> Iterator[Tensor]:
    """A tensor in consecutive parts of about `AT_ONCE` elements, each computed separately if possible."""
    known = like(state)[name]
    if not isinstance(state, LazyState) or not state.alone(name) or known.numel() <= AT_ONCE:
        yield state[name]
        return
    step = max(1, AT_ONCE * len(known) // known.numel())
    for start in range(0, len(known), step):
        yield state.rows(name, start, min(start + step, len(known)))


def each_once(
    state: Mapping[str, Tensor],
    make: Callable[[str], Tensor],
    part: Rows | None = None,
    in_rows: Callable[[str], bool] = lambda name: True,
) -> Mapping[str, Tensor]:
    """`make(name)` for every name, once for tied names; on access if `state` is lazy.

    `part` computes rows separately, where `in_rows`, as in `LazyState`.
    """
    known = like(state)
    first: dict[Any, str] = {}
    for name, tensor in known.items():
        first.setdefault(memory_of(tensor), name)
    names = {name: first[memory_of(tensor)] for name, tensor in known.items()}
    if isinstance(state, LazyState):
        rows = None if part is None else lambda name, *rows: part(names[name], *rows)
        return replace(
            state,
            make=lambda name: make(names[name]),
            part=rows,
            in_rows=lambda name: in_rows(names[name]),
        )
    done = {name: make(name) for name in first.values()}
    return {name: done[kept] for name, kept in names.items()}


def small_part(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The vectors and integers of a lazy state, with its matrices on meta, as a proof takes them; others unchanged."""
    if not isinstance(state, LazyState):
        return state
    known = state.like

    def make(name: str) -> Tensor:
        return known[name] if known[name].dim() > 1 and known[name].is_floating_point() else state[name]

    return LazyState(known, make, least=state.least)


def shape_or_type(value: Any) -> tuple[int, ...] | str:
    """The shape of a tensor; of anything else that a state dict can hold, its type."""
    return tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def memory_of(value: Any) -> Any:
    """A key that is equal for tied tensors: `state_dict` returns a new object for every name of a tied weight."""
    if not isinstance(value, Tensor) or value.is_meta or not value.numel():
        return id(value)
    return value.data_ptr(), value.shape, value.stride(), value.dtype
