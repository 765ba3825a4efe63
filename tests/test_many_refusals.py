"""What match_many and merge_many refuse, and how they say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pairs import mlp, vectors
from torch import nn

import permgraph as pg

X = vectors()[0]
IDENTITY = {"units": np.arange(12)}
REFUSED = {
    "one model": (lambda a, b: pg.match_many([a], args=(X,)), pg.SpecMismatchError, "two or more"),
    "another architecture": (
        lambda a, b: pg.match_many([a, b, mlp(13)], args=(X,)),
        pg.SpecMismatchError,
        r"models 1 \(A\) and 3 \(B\).*\(13, 5\)",
    ),
    "no data": (lambda a, b: pg.match_many([a, b], []), pg.CalibrationError, "empty"),
    "correlation without data": (
        lambda a, b: pg.match_many([a, b], args=(X,), method="correlation"),
        pg.CalibrationError,
        "calibration",
    ),
    "an unknown method": (lambda a, b: pg.match_many([a, b], args=(X,), method="magic"), ValueError, "magic"),
    "an unknown role": (
        lambda a, b: pg.match_many([a, b], args=(X,), groups=["attention"]),
        pg.SpecMismatchError,
        "attention",
    ),
    "another function": (
        lambda a, b: pg.match_many([a, b, nn.Sequential(a[0], nn.ReLU(), a[2], nn.ReLU(), a[4]).eval()], args=(X,)),
        pg.SpecMismatchError,
        "compute differently",
    ),
    "another specification": (
        lambda a, b: pg.match_many([a, b], args=(X,), spec=pg.derive(mlp(13), (X,))),
        pg.SpecMismatchError,
        "derive it again",
    ),
    "merging one model": (lambda a, b: pg.merge_many([a], [{}]), pg.SpecMismatchError, "two or more"),
    "shares that do not sum to 1": (
        lambda a, b: pg.merge_many([a, b], [{}, {}], weights=[1, 1]),
        ValueError,
        "sum to 1",
    ),
    "slerp of three": (
        lambda a, b: pg.merge_many([a, b, a], [{}, {}, {}], method="slerp"),
        ValueError,
        "merges two models, 3",
    ),
    "an unknown merge": (lambda a, b: pg.merge_many([a, b], [{}, {}], method="magic"), ValueError, "magic"),
    "permutations of unknown origin": (
        lambda a, b: pg.merge_many([a, b], [IDENTITY, IDENTITY]),
        pg.SpecMismatchError,
        "spec=",
    ),
    "too few permutations": (lambda a, b: pg.merge_many([a, b], [IDENTITY]), pg.SpecMismatchError, "one for each"),
    "permutations that do not fit": (
        lambda a, b: pg.merge_many([a, b], [IDENTITY, IDENTITY], spec=pg.derive(a, (X,))),
        pg.SpecMismatchError,
        "lacks: units",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(mlp(), mlp())


def test_non_finite_weights_are_refused_by_name() -> None:
    models = [mlp(), mlp(), mlp()]
    with torch.no_grad():
        models[2][2].weight[0, 0] = float("nan")
    for call in (lambda: pg.match_many(models, args=(X,)), lambda: pg.merge_many(models, [{}, {}, {}])):
        with pytest.raises(pg.CheckpointError, match=r"model 3.*2\.weight"):
            call()
