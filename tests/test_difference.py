"""Differences up to symmetry: only what was changed differs, and adding it to A gives B where it was moved to."""

from __future__ import annotations

import copy

import pytest
import torch
from compared_models import IDS, bert
from torch import nn

import permgraph as pg

EDITED = ("encoder.layer.1.output.dense.weight", "embeddings.LayerNorm.weight")


@pytest.mark.parametrize("kinds", ["permutation", "signed"])
def test_only_what_was_changed_differs(kinds: str) -> None:
    a, b = bert(0), copy.deepcopy(bert(0))
    spec = pg.derive(a, (), IDS, kinds=kinds)
    b.load_state_dict(spec.apply(spec.sample(0), a.state_dict()))
    with torch.no_grad():
        for name in EDITED:
            b.get_parameter(name).mul_(1.125)
    found = pg.diff(a, b, kwargs=IDS, kinds=kinds)
    assert tuple(found) == tuple(name for name in a.state_dict() if name in EDITED)
    assert sorted([*found.same, *found]) == sorted(a.state_dict())
    for name in EDITED:
        torch.testing.assert_close(found[name], a.get_parameter(name) / 8, rtol=1e-4, atol=1e-6)
        assert found.similarity[name].aligned_distance == pytest.approx(1 / 8, rel=1e-4)
    assert str(found).startswith(f"2 of {len(a.state_dict())} tensors differ up to symmetry")
    assert EDITED[0] in str(found)
    assert found.alignment.certificate.ok


def test_the_same_model_has_no_difference() -> None:
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).double().eval()
    x = (torch.randn(4, 6).double(),)
    spec = pg.derive(a, x, kinds="all")
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(0), a.state_dict()))
    found = pg.diff(a, b, args=x, kinds="all")
    assert (len(found), found.comparison.verdict) == (0, "same")
    assert str(found) == "0 of 4 tensors differ up to symmetry"
    assert len(pg.diff(a, b, args=x)) > 0  # scales are no signs


def test_buffers_of_whole_numbers_differ_too() -> None:
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3)).eval()
    b = copy.deepcopy(a)
    b[1].num_batches_tracked += 3
    found = pg.diff(a, b, args=(torch.randn(4, 6),))
    assert list(found) == ["1.num_batches_tracked"]
    assert found["1.num_batches_tracked"] == 3
    assert "num_batches" not in found.similarity
