"""A merge that cannot be compared with its parents is written all the same, and the output says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from pairs import spread
from torch import Tensor, nn

import permgraph as pg


class Net(nn.Module):
    def __init__(self, seed: int, classes: int = 4, *, barred: bool = False, chosen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, classes)
        self.barred, self.chosen = barred, chosen

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))
        y = y.masked_fill(torch.arange(4) == 1, -torch.inf) if self.barred else y
        return y.argmax(-1) if self.chosen else y


Made = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


def made(seed: int, classes: int = 4, **options: bool) -> Made:
    return spread(Net(seed, classes, **options), seed), (images()[0],), {}


def images() -> list[Tensor]:
    return [torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(k)) for k in range(3)]


def image() -> list[Tensor]:
    return [images()[0][:1]]


def a() -> Made:
    return made(1)


def b() -> Made:
    return made(2)


def barred_a() -> Made:
    return made(1, barred=True)


def barred_b() -> Made:
    return made(2, barred=True)


def chosen_a() -> Made:
    return made(1, chosen=True)


def chosen_b() -> Made:
    return made(2, chosen=True)


def wider() -> Made:
    return made(3, 5)


UNJUDGED = "what the merge keeps of A and B was not measured: "
SAID = {
    "one image": ("a", "b", "image", (), f"{UNJUDGED}the parents' outputs are the same in all rows (1)"),
    "whole numbers": ("chosen_a", "chosen_b", "images", (), f"{UNJUDGED}this model returns no tensor of real numbers"),
    "other heads": ("a", "wider", "images", ("--heads", "first"), f"{UNJUDGED}their heads differ, and it has A's"),
    "a barred logit": ("barred_a", "barred_b", "images", (), "of the mean of what A and B compute (logits, "),
}


@pytest.mark.parametrize("case", SAID)
def test_what_cannot_be_measured_does_not_cost_the_merge(case: str, tmp_path: Path) -> None:
    one, other, data, words, said = SAID[case]
    names = (f"python:test_unjudged:{name}" for name in (one, other))
    found = run("merge", *names, "--data", f"python:test_unjudged:{data}", *words, "--out", tmp_path / "m")
    assert said in found.stdout
    record = json.loads((tmp_path / "m/permgraph.json").read_text())
    assert ("fidelity" in record["merge"]) == (case == "a barred logit")


def test_a_merge_by_shares_is_measured_by_the_default_share(tmp_path: Path) -> None:
    names = ("python:test_unjudged:a", "python:test_unjudged:b", "--data", "python:test_unjudged:images")
    for out, weight in (("one", "0.9"), ("other", "default=0.9,conv=0.9")):
        run("merge", *names, "--weight", weight, "--out", tmp_path / out)
    one, other = (
        json.loads((tmp_path / out / "permgraph.json").read_text())["merge"]["fidelity"] for out in ("one", "other")
    )
    assert one == other


def test_outputs_that_are_not_finite_are_not_compared() -> None:
    class Logarithm(Net):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = super().forward(x).log()
            return y

    first, second = (spread(Logarithm(seed), seed) for seed in (1, 2))
    with pytest.raises(pg.CalibrationError, match="not finite and cannot be compared"):
        pg.fidelity(first.state_dict(), first, second, images())
