"""Shares by group, by role and from correlation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pairs import PLANTED, gpt2, mlp, plant, spread, vectors
from torch import nn

import permgraph as pg
from permgraph.merging import layer_method
from permgraph.merging.shares import correlation_shares, shares_of


def _shares(weight: Any, name: str = "gpt2") -> Any:
    planted = PLANTED[name]()
    return shares_of(weight, None, planted.spec).of


def test_a_share_by_role_is_that_of_the_first_axis_that_is_no_residual_stream() -> None:
    of = _shares({"attention": 0.1, "feed_forward": 0.2, "residual": 0.3, "default": 0.4})
    layer = "transformer.h.0."
    assert of(f"{layer}attn.c_proj.weight") == 0.1
    assert of(f"{layer}mlp.c_fc.weight") == of(f"{layer}mlp.c_fc.bias") == of(f"{layer}mlp.c_proj.weight") == 0.2
    assert of(f"{layer}ln_1.weight") == of("transformer.wte.weight") == 0.3
    assert _shares({"default": 0.4})("transformer.wte.weight") == 0.4


def test_shares_within_a_fused_projection_follow_its_thirds() -> None:
    of = _shares({"attention.vo": 0.9, "attention.heads": 0.2})
    fused = of("transformer.h.0.attn.c_attn.weight")
    assert fused.shape == (32, 96)
    assert set(fused[:, :64].flatten().tolist()) == {0.2}
    assert set(fused[:, 64:].flatten().tolist()) == {0.9}


def test_further_signs_have_no_share_of_their_own() -> None:
    planted = PLANTED["llama"]()
    spec = pg.derive(planted.a, (), planted.batches[0], kinds="all")
    of = shares_of({"attention": 0.1, "feed_forward": 0.2}, None, spec).of
    assert any(not move.leaves for layout in spec.layouts.values() for cell in layout.cells for move in cell.moves)
    assert {of(name) for name in spec.layouts if ".mlp." in name} == {0.2}
    assert {of(name) for name in spec.layouts if ".self_attn." in name} == {0.1}


def test_the_most_special_key_is_kept() -> None:
    name = "transformer.h.1.mlp.hidden"
    names = [group.name for group in PLANTED["gpt2"]().spec.groups if group.role == "feed_forward"]
    of = _shares({names[1]: 0.9, "feed_forward": 0.2})
    assert (of("transformer.h.0.mlp.c_fc.weight"), of("transformer.h.1.mlp.c_fc.weight")) == (0.2, 0.9), name


@pytest.mark.parametrize("method", ["linear", "slerp", *layer_method])
def test_shares_of_one_and_nothing_are_the_parents_by_group(method: str) -> None:
    planted = gpt2()
    torch.manual_seed(3)
    other = spread(copy.deepcopy(planted.a), 7)
    weight = {"attention": 1.0, "feed_forward": 0.0, "residual": 1.0, "default": 1.0}
    data = None if method in ("linear", "slerp") else planted.batches
    merged = pg.merge(planted.a, other, weight=weight, method=method, spec=planted.spec, data=data)
    for name, value in merged.items():
        with_its_weight = method in layer_method or "c_proj.bias" not in name
        parent = other if ".mlp." in name and with_its_weight else planted.a
        torch.testing.assert_close(value, parent.state_dict()[name], atol=1e-4, rtol=1e-4, msg=name)


def test_shares_from_correlation_leave_to_a_what_does_not_match() -> None:
    planted = plant(mlp(), vectors())
    found = pg.align(planted.a, planted.b, planted.batches)
    shares = correlation_shares(found, 0.6)
    assert shares == pytest.approx(dict.fromkeys((*found.gains, "default"), 0.6))
    other = mlp()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    found = pg.align(planted.a, other, planted.batches)
    for name, gain in found.gains.items():
        assert correlation_shares(found)[name] == pytest.approx(1 - 0.5 * gain.solution)
        assert 0.5 < correlation_shares(found)[name] <= 1
    merged = pg.merge(planted.a, other, alignment=found, weight="correlation")
    share = correlation_shares(found)[next(iter(found.gains))]
    wanted = share * planted.a[0].weight + (1 - share) * found.moved("0.weight")
    torch.testing.assert_close(merged["0.weight"], wanted.detach())
