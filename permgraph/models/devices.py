"""Where to compute: a device by name, and batches moved to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import torch

from permgraph.data.batches import Numbered
from permgraph.errors import OptionError
from permgraph.tracing.inputs import moved


def device_of(name: str) -> torch.device:
    """The device called `name`: `cpu`, `cuda` or `cuda:N`.

    Raises OptionError where this PyTorch has no such device, and for those that cannot prove anything in float64.
    """
    count = torch.cuda.device_count()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"--device {name}: is not a device. Give cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"--device {name}: every alignment is proved in float64, on cpu or cuda. Give one of these.")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise OptionError(
            f"--device {name}: PyTorch {torch.__version__} sees {count} CUDA devices. Give cpu, or install a PyTorch "
            "for this machine's GPU."
        )
    return device


def moved_batches(batches: Iterable[Any], device: torch.device) -> Iterable[Any]:
    """The same batches with every tensor on `device`; by number if they are a sequence."""
    if device.type == "cpu":
        return batches
    return MovedSequence(batches, device) if isinstance(batches, Sequence) else MovedBatches(batches, device)


class MovedBatches:
    """The same batches with every tensor on `device`."""

    def __init__(self, batches: Iterable[Any], device: torch.device) -> None:
        self.batches = batches
        self.device = device
        self.unit = getattr(batches, "unit", "samples")

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the data says of it."""
        return tuple(getattr(self.batches, "notes", ()))

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield moved(batch, self.device)

    def dealt(self, rank: int, of: int) -> Iterator[Any]:
        """Every `of`-th batch from number `rank`; the others are not made if the batches support it."""
        deal = getattr(self.batches, "dealt", None)
        for batch in islice(self.batches, rank, None, of) if deal is None else deal(rank, of):
            yield moved(batch, self.device)

    def __len__(self) -> int:
        """The number of batches, if it is known."""
        if isinstance(self.batches, Sized):
            return len(self.batches)
        raise TypeError("these batches have no length")


class MovedSequence(MovedBatches, Numbered):
    """The same for batches that can be read by number."""

    batches: Sequence[Any]

    def made(self, number: int) -> Any:
        """The batch of this number."""
        return moved(self.batches[number], self.device)
