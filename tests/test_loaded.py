"""What `load` returned can be derived, verified, aligned, matched and merged as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import permgraph as pg
from permgraph.models.loading import LoadedModel

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x, scale):
        return self.last(torch.relu(self.first(x))) * scale

def make(seed):
    torch.manual_seed(seed)
    return Net().eval(), (torch.ones(2, 4),), {"scale": torch.ones(3)}

def a(): return make(0)
def b(): return make(1)
def c(): return make(2)
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[LoadedModel]:
    (tmp_path / "loaded_models.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return [pg.load(f"python:loaded_models:{name}") for name in "abc"]


def test_it_brings_its_inputs(loaded: list[LoadedModel]) -> None:
    a, b, c = loaded
    spec = pg.derive(a)
    assert spec.to_json() == pg.derive(a.model, a.args, a.kwargs).to_json()
    assert pg.verify(b, spec=spec).ok
    form = pg.canonical(a)
    assert form.spec.to_json() == pg.derive(a, kinds="all").to_json()
    assert all(torch.equal(tensor, form[name]) for name, tensor in pg.canonical(a.model, a.args, a.kwargs).items())
    found = pg.align(a, b)
    assert found.permutations == pg.align(a.model, b.model, args=a.args, kwargs=a.kwargs).permutations
    merged = pg.merge(a, b, alignment=found)
    assert all(torch.equal(x, y) for x, y in zip(
        merged.values(), pg.merge(a.model, b.model, alignment=found).values(), strict=True
    ))  # fmt: skip
    assert len(pg.merge_many(loaded, pg.match_many(loaded))) == len(merged)
    losses = pg.barrier(a, b, lambda model: float(model(*c.args, **c.kwargs).detach().square().sum()), weights=3)
    assert len(losses.losses) == 3


def test_other_inputs_take_their_place(loaded: list[LoadedModel]) -> None:
    a, b, _ = loaded
    batches = [{"x": torch.randn(40, 4), "scale": torch.ones(3)} for _ in range(3)]
    assert pg.align(a, b, batches).method == "correlation"
    assert pg.derive(a, (torch.ones(5, 4),), {"scale": torch.ones(3)}).groups == pg.derive(a).groups
