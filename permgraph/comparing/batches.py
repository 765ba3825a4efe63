"""Calibration batches: converts what a caller gives to arguments of a model, and reads it as often as needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from permgraph import ranks
from permgraph.errors import CalibrationError
from permgraph.tracing.places import leaves_with_places

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


@dataclass(frozen=True)
class Reading:
    """How much calibration data was read: batches, samples (rows of their first tensor), and what one sample is."""

    batches: int
    samples: int
    unit: str = "samples"

    def __str__(self) -> str:
        what, _, of = self.unit.partition(" ")
        unit = " ".join([what.removesuffix("s") if self.samples == 1 else what, *filter(None, [of])])
        return f"{self.samples:,} {unit} in {self.batches:,} batch{'es' if self.batches != 1 else ''}"


class Batches:
    """Any iterable of batches, which can be read any number of times.

    Iterating over it reads all batches; batches that can be read only once, as from a generator, are then kept in
    memory. `stream` reads without keeping, and `dealt` reads the share of one of several processes. Raises
    CalibrationError if `data` is a single batch or empty, and, while it is read, for an item that is not a batch, a
    batch without samples, or values that are not finite.

    Attributes:
        first: the first batch.
        total: the number of batches; None if `data` does not tell.
        read: how much the last whole reading gave, or how much was drawn since; None before.

    """

    def __init__(self, data: Iterable[Any]) -> None:
        if isinstance(data, Tensor | Mapping | str):
            raise CalibrationError(f"data is an iterable of batches, not one {type(data).__name__}: put it in a list")
        if not isinstance(data, Iterable):
            raise CalibrationError(f"data is an iterable of batches, not {type(data).__name__}: give a list of tensors")
        self.total = _length(data)
        self.read: Reading | None = None
        self._drawn = dict[int, int]()
        self._once = self.total is None and iter(data) is iter(data)
        self._data: Iterable[Any] = data
        self._begun: Iterator[Any] | None = iter(data)
        try:
            item = next(self._begun)
        except StopIteration:
            raise CalibrationError(EMPTY) from None
        self.first, self._item = as_batch(item), item
        self._begun = chain([item], self._begun)

    @property
    def again(self) -> bool:
        """Whether the data can be read again, unlike a generator's."""
        return not self._once

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of the reader, such as which files are empty."""
        return tuple(getattr(self._data, "notes", ()))

    @classmethod
    def of(cls, data: Iterable[Any] | Batches) -> Batches:
        """`data` as `Batches`; unchanged if it is that already."""
        return data if isinstance(data, Batches) else cls(data)

    def __iter__(self) -> Iterator[Batch]:
        self.keep()
        return self.stream()

    def beginning(self, count: int) -> Batches:
        """The first `count` batches; only the first if the data can be read only once."""
        return Batches([self._item] if self._once else list(islice(self._data, count)))

    def keep(self) -> None:
        """Hold batches that can be read only once in memory."""
        if self._once and self._begun is not None:
            self._data, self._begun, self._once = list(self._begun), None, False

    def dealt(self, *, once: bool = False) -> Iterator[Batch]:
        """The batches of this process: rank r of n gets numbers r, r + n, …; without a process group, all.

        `once`: the data is not read again, so batches of a generator are not kept. Raises RankError if another process
        was given different data.
        """
        if ranks.count() > 1:
            ranks.require_same((_digest(self.first), self.total), "calibration data")
        if not once:
            self.keep()
        return self.stream(ranks.number(), ranks.count())

    def stream(self, rank: int = 0, of: int = 1) -> Iterator[Batch]:
        """All batches in order, or every `of`-th from number `rank`; none is kept: a generator ends with it."""
        begun, self._begun = self._begun, None
        if begun is None:
            if self._once:
                raise CalibrationError("this calibration data was read to its end: put the batches in a list")
            begun = iter(self._data)
        deal = getattr(self._data, "dealt", None) if of > 1 else None
        number, samples = 0, 0
        for number, item in enumerate(islice(begun, rank, None, of) if deal is None else deal(rank, of), 1):
            batch = as_batch(item)
            _require_usable(batch, rank + (number - 1) * of + 1)
            samples += _samples(batch)
            yield batch
        if of == 1:
            self.read = self._reading(number, samples)
        if not number and of == 1:  # an iterable that gives its batches once
            raise CalibrationError(EMPTY)

    def drawn(self, steps: int, generator: torch.Generator, *, leave: int = 0) -> Iterator[Batch]:
        """A batch for each step; none is kept. A sequence is read in a new random order in each pass, without its last
        `leave` batches, anything else in its own order.

        Raises CalibrationError if the data ends before the steps do and cannot be read again.
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

    def ending(self, count: int, part: int) -> list[Batch]:
        """The last `count` batches of a sequence, or one of every `part` where these are fewer; none of other data.

        Raises CalibrationError for one that is not finite.
        """
        if not isinstance(self._data, Sequence) or len(self._data) < part:
            return []
        whole = len(self._data)
        return [self._numbered(k) for k in range(whole - min(count, whole // part), whole)]

    def _one_pass(self, generator: torch.Generator, leave: int) -> Iterator[Batch]:
        data = self._data
        if not isinstance(data, Sequence):
            yield from self.stream()
            return
        for k in torch.randperm(len(data) - leave, generator=generator, device="cpu").tolist():
            batch = self._numbered(k)
            self._drawn[k] = _samples(batch)
            self.read = self._reading(len(self._drawn), sum(self._drawn.values()))
            yield batch

    def _numbered(self, k: int) -> Batch:
        """Batch `k` of a sequence."""
        assert isinstance(self._data, Sequence)
        batch = as_batch(self._data[k])
        _require_usable(batch, k + 1)
        return batch

    def _reading(self, batches: int, samples: int) -> Reading:
        return Reading(batches, samples, getattr(self._data, "unit", Reading.unit))


def _digest(batch: Batch) -> str:
    """SHA-256 of the numbers of a batch."""
    found = hashlib.sha256()
    for value in pytree.tree_leaves(batch):
        plain = value.detach().cpu().double().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode()
        found.update(plain)
    return found.hexdigest()


def _length(data: Iterable[Any]) -> int | None:
    try:
        return len(data) if isinstance(data, Sized) else None
    except TypeError:  # a data loader over a stream has `__len__`, and no length
        return None


def _samples(batch: Batch) -> int:
    first = next((leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim()), None)
    return 0 if first is None else len(first)


def _require_usable(batch: Batch, number: int) -> None:
    """Raise CalibrationError for a batch without a number, or with one that is not finite."""
    args, kwargs = batch
    tensors = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    if tensors and not any(tensor.numel() for tensor in tensors):
        raise CalibrationError(f"batch {number} has no samples, its shape is {list(tensors[0].shape)}: leave it out")
    for side, values in (("args", list(args)), ("kwargs", kwargs)):
        for path, value in leaves_with_places(values):
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
                place = side + "".join(map(str, path))
                raise CalibrationError(
                    f"batch {number}: {place} has values that are not finite; clean the calibration data"
                )
