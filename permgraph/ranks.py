"""The processes of a torch.distributed group: which one this is, sums over all, and work shared out among them.

Everything here is a no-op in a process without a group. In a group every rank has to make the same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from permgraph.errors import RankError
from permgraph.wording import reason

T = TypeVar("T")


def count() -> int:
    """The number of processes, 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def number() -> int:
    """This process among them, from 0."""
    return dist.get_rank() if count() > 1 else 0


def add_up(tensor: Tensor) -> None:
    """`tensor` becomes the sum of those of all ranks, in place and to the last bit the same on each.

    Raises RankError where a rank is lost.
    """
    if count() == 1:
        return
    on_gpu = dist.get_backend() == dist.Backend.NCCL and tensor.device.type == "cpu"
    total = tensor.cuda() if on_gpu else tensor
    _collective(lambda: dist.all_reduce(total))
    if on_gpu:
        tensor.copy_(total)


def gathered(value: T) -> list[T]:
    """The value of every rank, by number. Raises RankError where a rank is lost."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    _collective(lambda: dist.all_gather_object(found, value))
    return found


@contextmanager
def together() -> Iterator[None]:
    """What goes wrong in one rank inside is raised in all of them, so that none waits for another in vain."""
    error: Exception | None = None
    try:
        yield
    except RankError:
        raise
    except Exception as caught:
        error = caught
    told = gathered(None if error is None else str(error) or type(error).__name__)
    if error is not None:
        raise error
    for rank, text in enumerate(told):
        if text is not None:
            raise RankError(f"rank {rank} failed: {text}")


def require_same(value: object, what: str) -> None:
    """Raise RankError unless every rank has the same value."""
    first, *others = gathered(value)
    for rank, other in enumerate(others, 1):
        if other != first:
            raise RankError(
                f"rank {rank} was given other {what} than rank 0: give every process the same, they share it out"
            )


def shared_out(work: Callable[[T], Any], items: Sequence[T]) -> list[Any]:
    """`work` of every item, in order; each rank does every `count()`-th of them, and all get all results."""
    mine = range(number(), len(items), count())
    with together():
        done = {k: work(items[k]) for k in mine}
    found: dict[int, Any] = {}
    for part in gathered(done):
        found |= part
    return [found[k] for k in range(len(items))]


def _collective(call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError as error:
        raise RankError(
            f"a process of the group is lost or does not answer ({reason(error)}); nothing was written. Start all of "
            "them again"
        ) from error
