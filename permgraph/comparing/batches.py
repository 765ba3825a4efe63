"""Calibration batches: what a caller gives, as arguments of a model, read as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from permgraph.errors import CalibrationError

Batch = tuple[tuple[Any, ...], dict[str, Any]]
"""(args, kwargs) of a forward pass."""

Progress = Callable[[str, int, int | None], None]
"""Called as progress(stage, done, total); `total` is None where it is not known."""

EMPTY = "the calibration data is empty: give at least one batch"


def as_batch(item: Any) -> Batch:
    """A batch as (args, kwargs): a tensor is the one argument, a tuple the arguments, a mapping the keywords."""
    if isinstance(item, Mapping):
        return (), dict(item)
    if isinstance(item, tuple | list):
        return tuple(item), {}
    if isinstance(item, Tensor):
        return (item,), {}
    raise CalibrationError(
        f"a batch is a tensor, a tuple of arguments or a dict of keywords, not {type(item).__name__}"
    )


class Batches:
    """Any iterable of batches; `first` is known before anything is read twice.

    Iterating over it reads all batches, again and again: what can be read only once, such as a generator, is kept in
    memory then. `stream` reads without keeping. Raises CalibrationError where `data` is a single batch or empty, and,
    while it is read, for a batch that is none or has values that are not finite.

    Attributes:
        first: the first batch.
        total: the number of batches, None where `data` does not say.

    """

    def __init__(self, data: Iterable[Any]) -> None:
        if isinstance(data, Tensor | Mapping | str):
            raise CalibrationError(f"data is an iterable of batches, not one {type(data).__name__}: put it in a list")
        self.total = _length(data)
        self._once = self.total is None and iter(data) is iter(data)
        self._data: Iterable[Any] = data
        self._begun: Iterator[Any] | None = iter(data)
        try:
            item = next(self._begun)
        except StopIteration:
            raise CalibrationError(EMPTY) from None
        self.first = as_batch(item)
        self._begun = chain([item], self._begun)

    @classmethod
    def of(cls, data: Iterable[Any] | Batches) -> Batches:
        """`data` itself where it is `Batches` already."""
        return data if isinstance(data, Batches) else cls(data)

    def __iter__(self) -> Iterator[Batch]:
        if self._once and self._begun is not None:
            self._data, self._begun, self._once = list(self._begun), None, False
        return self.stream()

    def stream(self) -> Iterator[Batch]:
        """All batches in order, none kept; of a generator this is the last reading."""
        begun, self._begun = self._begun, None
        if begun is None:
            if self._once:
                raise CalibrationError("this calibration data was read to its end: put the batches in a list")
            begun = iter(self._data)
        number = 0
        for number, item in enumerate(begun, 1):
            batch = as_batch(item)
            _require_finite(batch, number)
            yield batch
        if not number:  # an iterable that gives its batches once
            raise CalibrationError(EMPTY)

    def drawn(self, steps: int, generator: torch.Generator, *, leave: int = 0) -> Iterator[Batch]:
        """A batch for each step, none kept: a sequence is read in a new random order in each pass, without its last
        `leave`, and anything else in its own order.

        Raises CalibrationError where the data ends before the steps do and cannot be read again.
        """
        done = 0
        while done < steps:
            before, once = done, self._once
            for batch in self._one_pass(generator, leave):
                yield batch
                done += 1
                if done == steps:
                    return
            if once or done == before:
                raise CalibrationError(
                    f"the calibration data ended after {done} of {steps} steps and cannot be read again: "
                    "put the batches in a list, or ask for fewer steps"
                )

    @property
    def sequence(self) -> Sequence[Any] | None:
        """The data where any of its batches can be had at once; None elsewhere."""
        return self._data if isinstance(self._data, Sequence) else None

    def _one_pass(self, generator: torch.Generator, leave: int) -> Iterator[Batch]:
        data = self.sequence
        if data is None:
            yield from self.stream()
            return
        for k in torch.randperm(len(data) - leave, generator=generator).tolist():
            batch = as_batch(data[k])
            _require_finite(batch, k + 1)
            yield batch


def _length(data: Iterable[Any]) -> int | None:
    try:
        return len(data) if isinstance(data, Sized) else None
    except TypeError:  # a data loader over a stream has `__len__`, and no length
        return None


def _require_finite(batch: Batch, number: int) -> None:
    args, kwargs = batch
    for side, values in (("args", list(args)), ("kwargs", kwargs)):
        for path, value in pytree.tree_flatten_with_path(values)[0]:
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
                place = side + "".join(map(str, path))
                raise CalibrationError(
                    f"batch {number}: {place} has values that are not finite; clean the calibration data"
                )
