"""Batches of one shape, each made when it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.errors import CalibrationError, OptionError

Inputs = dict[str, Tensor]


class Numbered(Sequence[Any], ABC):
    """Batches of which each is made when it is read, by its number."""

    @abstractmethod
    def made(self, number: int) -> Any:
        """The batch of this number, from 0 on."""

    def __getitem__(self, number: Any) -> Any:
        """The batch of this number, or a list of those of a slice."""
        numbers = range(len(self))[number]
        return [self.made(k) for k in numbers] if isinstance(numbers, range) else self.made(numbers)

    def __iter__(self) -> Iterator[Any]:
        return self.dealt(0, 1)

    def dealt(self, rank: int, of: int) -> Iterator[Any]:
        """Every `of`-th batch from number `rank`; the others are not made."""
        return map(self.made, range(rank, len(self), of))


class Batches(Numbered):
    """Batches `{name: tensor}` of `samples`, each made when it is needed; all have the same names and shapes.

    Samples that do not fill a last batch are dropped; with fewer samples than `batch_size` the batch is smaller. `unit`
    is what one sample is, in the plural. `notes` are remarks about the data, or a function that returns them once it
    was read. Raises CalibrationError, while iterating, for values that are not finite.
    """

    def __init__(
        self,
        samples: list[Any],
        make: Callable[[list[Any]], Inputs],
        batch_size: int,
        *,
        unit: str = "samples",
        notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}, and must be 1 or more")
        self.batch_size = min(batch_size, len(samples))
        self.samples = samples
        self.make = make
        self.unit = unit
        self._notes = notes

    def __repr__(self) -> str:
        return f"Batches({len(self)} batches of {self.batch_size} {self.unit})"

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks about the data, such as which files are empty."""
        return tuple(self._notes())

    def __len__(self) -> int:
        """The number of batches."""
        return len(self.samples) // self.batch_size

    def made(self, number: int) -> Inputs:
        """The batch of this number. Raises CalibrationError for values that are not finite."""
        batch = self.make(self.samples[number * self.batch_size : (number + 1) * self.batch_size])
        for name, tensor in batch.items():
            if not bool(torch.isfinite(tensor).all()):
                raise CalibrationError(
                    f"batch {number} of {name} holds NaN or infinite values. Repair or remove the file behind it."
                )
        return batch


def side_by_side(first: Batches, second: Batches) -> Batches:
    """Batches with the inputs of both, pairing their samples in order, as many as the shorter has."""

    def make(pairs: list[Any]) -> Inputs:
        return first.make([pair[0] for pair in pairs]) | second.make([pair[1] for pair in pairs])

    def notes() -> tuple[str, ...]:
        return (*first.notes, *second.notes)

    pairs, unit = list(zip(first.samples, second.samples, strict=False)), f"pairs of {first.unit} and {second.unit}"
    return Batches(pairs, make, min(first.batch_size, second.batch_size), unit=unit, notes=notes)


def files_with(data: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    """The files in a folder and all below it that end so, by path. Raises CalibrationError where there is none."""
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise CalibrationError(f"{data}: no {what} files (looked for {', '.join(suffixes)} here and below). Add some.")
    return found


def shuffled(items: list[Any], seed: int) -> list[Any]:
    """The same items in an order drawn from `seed`."""
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]
