"""Calibration data of every shape: read as often as needed, and refused where it is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from pairs import mlp, vectors
from torch.utils.data import DataLoader, IterableDataset

import permgraph as pg
from permgraph.comparing.batches import Batches

COUNT = 3


class Stream(IterableDataset):
    """Samples without a length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(20.0).reshape(4, 5))


def batches() -> list[torch.Tensor]:
    return [torch.full((2, 5), float(k)) for k in range(COUNT)]


class Resumed:
    """Goes on where it was left."""

    def __init__(self) -> None:
        self.rest = iter(batches())

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self.rest


KINDS: dict[str, tuple[Callable[[], Iterable[Any]], int | None]] = {
    "a list": (batches, COUNT),
    "a tuple of dicts": (lambda: tuple({"x": x} for x in batches()), COUNT),
    "a generator": (lambda: (x for x in batches()), None),
    "an iterable that is read once": (Resumed, None),
    "a loader over a stream": (lambda: DataLoader(Stream(), batch_size=2), None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_batch_is_known_and_all_can_be_read_again(kind: str) -> None:
    make, total = KINDS[kind]
    found = Batches(make())
    assert found.total == total
    once, twice, thrice = list(found), list(found), list(found.stream())
    assert len(once) == len(twice) == len(thrice) == (total or len(list(make())))
    for (args, kwargs), (first_args, first_kwargs) in zip(once[:1], [found.first], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(args, first_args, strict=True))
        assert list(kwargs) == list(first_kwargs)


def test_what_was_streamed_is_not_read_as_empty() -> None:
    found = Batches(x for x in batches())
    assert len(list(found.stream())) == COUNT
    with pytest.raises(pg.CalibrationError, match="put the batches in a list"):
        list(found)


def test_values_that_are_not_finite_are_named_by_batch_and_place() -> None:
    bad = [{"x": torch.ones(2, 5), "more": [torch.ones(2), torch.tensor([1.0, float("inf")])]}]
    with pytest.raises(pg.CalibrationError, match=r"batch 1: kwargs\['more'\]\[1\] has values that are not finite"):
        list(Batches(bad))


def test_a_batch_without_samples_is_refused() -> None:
    found = Batches([(torch.ones(2, 5), torch.ones(0)), (torch.ones(0, 5), torch.ones(0))])
    with pytest.raises(pg.CalibrationError, match=r"batch 2 has no samples, its shape is \[0, 5\]: leave it out"):
        list(found)


@pytest.mark.parametrize("kinds", ["permutation", "signed"])
def test_samples_that_repeat_two_are_refused(kinds: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).eval()
    two = torch.randn(2, 5)
    with pytest.raises(pg.CalibrationError, match=r"64 of 64 pairs .* only two of the 64 frames differ"):
        pg.align(model, model, [two.repeat(16, 1)] * 2, kinds=kinds)
    assert pg.align(model, model, [torch.cat([two.repeat(16, 1), torch.randn(1, 5)])], kinds=kinds).certificate.ok


def test_a_loader_without_a_length_aligns() -> None:
    class Vectors(IterableDataset):
        def __iter__(self) -> Iterator[torch.Tensor]:
            return iter(torch.cat(vectors()))

    loader = DataLoader(Vectors(), batch_size=64)
    assert pg.align(mlp(), mlp(), loader).certificate.ok


def test_units_that_all_follow_from_one_number_are_refused_as_such() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Linear(8, 2)).eval()
    with pytest.raises(pg.CalibrationError, match=r"64 of 64 pairs .* or all channels follow from one number"):
        pg.align(model, model, [torch.randn(32, 1)] * 2)
