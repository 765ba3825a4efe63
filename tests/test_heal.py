"""A merge that both parents are distilled into."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from kind_cases import Block
from learning_cases import planted
from pairs import spread
from torch import Tensor, nn

import permgraph as pg
from permgraph.learning.objective import distance, divergence


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.outer.weight = self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.relu(self.norm(self.inner(x))))


@pytest.mark.parametrize("reduced", [False, True], ids=["float32", "in a caller's autocast"])
def test_heal_comes_near_both_parents(reduced: bool) -> None:
    torch.manual_seed(0)
    a, b = (spread(Block(affine=True), seed) for seed in (1, 2))
    batches = [torch.randn(32, 6, 5) for _ in range(3)]
    merged = pg.merge(a, b)
    before = copy.deepcopy(merged)
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        healed = pg.heal(merged, a, b, batches, steps=100, rate=1e-2)
    x = torch.randn(64, 6, 5)
    with torch.no_grad():
        parents = [model(x).flatten(0, 1) for model in (a, b)]
        far, near = (
            float(divergence(torch.func.functional_call(a, state, (x,)).flatten(0, 1), *parents))
            for state in (merged, healed)
        )
    assert near < 0.5 * far
    assert all(torch.equal(before[name], merged[name]) for name in merged)
    assert {name: tensor.dtype for name, tensor in healed.items()} == {name: t.dtype for name, t in merged.items()}


def test_heal_keeps_ties_dtypes_and_buffers() -> None:
    a, b = (spread(Tied(), seed).bfloat16() for seed in (1, 2))
    merged = pg.merge(a, b)
    healed = pg.heal(merged, a, b, [torch.randn(8, 6).bfloat16()], steps=2)
    assert healed["inner.weight"] is healed["outer.weight"]
    assert {tensor.dtype for tensor in healed.values()} == {torch.bfloat16, torch.int64}
    assert not torch.equal(healed["inner.weight"], merged["inner.weight"])
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert torch.equal(healed[name], merged[name])


def test_heal_learns_weights_apart_that_a_merge_untied() -> None:
    a, b = (spread(Tied(), seed) for seed in (1, 2))
    merged = pg.merge(a, b)
    merged["outer.weight"] = merged["outer.weight"] + 1
    healed = pg.heal(merged, a, b, [torch.randn(8, 6)], steps=1, rate=1e-6)
    torch.testing.assert_close(healed, merged, rtol=0, atol=1e-5)
    assert a.outer.weight is a.inner.weight


def test_heal_refuses_another_architecture() -> None:
    pair = planted()
    state = {name: tensor for name, tensor in pair.model.state_dict().items() if name != "q.bias"}
    with pytest.raises(pg.SpecMismatchError, match=r"q\.bias: \(8,\) in A, absent in B"):
        pg.heal(state, pair.model, pair.other, pair.batches, steps=1)


def test_a_merge_that_heals_is_a_merge_that_is_healed() -> None:
    torch.manual_seed(0)
    a, b = (spread(Block(affine=True), seed).double() for seed in (1, 2))
    batches = [torch.randn(16, 6, 5).double() for _ in range(3)]
    aligned = pg.align(a, b, args=(batches[0],), kinds="all")
    merged = pg.merge(a, b, alignment=aligned, method="linear+heal", data=batches)
    a.load_state_dict(aligned.reference)
    b.load_state_dict(aligned.state_dict)
    healed = pg.heal(pg.merge(a, b), a, b, batches, steps=100)
    for name, tensor in healed.items():
        torch.testing.assert_close(merged[name], tensor)


@pytest.mark.parametrize("kind", ["logits", "features"])
def test_a_merge_is_healed_by_share(kind: str) -> None:
    torch.manual_seed(0)
    a, b = (spread(nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 4)), seed) for seed in (1, 2))
    models = [nn.Sequential(model, nn.GELU()).eval() if kind == "features" else model for model in (a, b)]
    batches = [torch.randn(64, 5) for _ in range(4)]
    for share in (0.9, 0.1):
        far, near = (
            pg.fidelity(pg.merge(*models, weight=share, method=method, data=batches), *models, batches, weight=share)
            for method in ("linear", "linear+heal")
        )
        assert near.kind == kind
        assert near.divergence < far.divergence


@pytest.mark.parametrize("compare", [divergence, distance])
def test_a_share_of_one_is_that_parent(compare: Callable[..., Tensor]) -> None:
    own, a, b = (torch.randn(7, 4, generator=torch.Generator().manual_seed(k)) for k in range(3))
    assert float(compare(a, a, b, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(compare(own, a, b, 1.0)) == pytest.approx(float(compare(own, a, a)))
    assert float(compare(own, a, b, 0.5)) == float(compare(own, a, b))
