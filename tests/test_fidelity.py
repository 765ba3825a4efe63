"""How much of what its parents compute a merge keeps, without labels."""

from __future__ import annotations

import copy

import pytest
import torch
from kind_cases import Block
from pairs import mlp, plant, spread, vectors
from torch import Tensor, nn

import permgraph as pg
from permgraph.learning.objective import divergence

BATCHES = [torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (40, 40, 17)]
ALL = torch.cat(BATCHES)


class Features(nn.Module):
    """Outputs that are no logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.inner(x))


def constant(model: nn.Module, name: str, value: Tensor) -> dict[str, Tensor]:
    """A state dict with no weight at the last layer and this bias there: outputs that are the same for all inputs."""
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state[f"{name}.weight"].zero_()
    state[f"{name}.bias"].copy_(value)
    return state


@pytest.mark.parametrize("kind", ["logits", "features"])
def test_fidelity_is_1_for_the_mean_and_0_for_the_best_constant(kind: str) -> None:
    a, b = (spread(mlp() if kind == "logits" else Features(), seed) for seed in (1, 2))
    same = pg.fidelity(a.state_dict(), a, copy.deepcopy(a), BATCHES)
    assert (same.merge, same.parents) == (pytest.approx(1, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert (same.kind, same.rows) == (kind, len(ALL))
    with torch.no_grad():
        one, other = (model(ALL) for model in (a, b))
    if kind == "logits":
        mean = ((one.softmax(-1) + other.softmax(-1)) / 2).mean(0)
        best, worse = (constant(a, "4", value) for value in (mean.log(), torch.tensor([5.0, 0.0, 0.0])))
    else:
        mean = ((one + other) / 2).mean(0)
        best, worse = (constant(a, "inner", value) for value in (mean.logit(), 3 * torch.ones(4)))
    assert pg.fidelity(best, a, b, BATCHES).merge == pytest.approx(0, abs=1e-5)
    far = pg.fidelity(worse, a, b, BATCHES)
    assert far.merge < -0.1
    assert far.parents < 1
    assert "keeps nothing" in str(far)


def test_the_mean_is_by_share() -> None:
    a, b = (spread(Features(), seed) for seed in (1, 2))
    assert pg.fidelity(a.state_dict(), a, b, BATCHES, weight=1).merge == pytest.approx(1, abs=1e-6)
    near, half = (pg.fidelity(a.state_dict(), a, b, BATCHES, weight=share) for share in (0.9, 0.5))
    assert 1 > near.merge > half.merge
    assert half.parents == pytest.approx(sum(pg.fidelity(m.state_dict(), a, b, BATCHES).merge for m in (a, b)) / 2)
    with pytest.raises(pg.OptionError, match=r"must be in \[0, 1\], not 2"):
        pg.fidelity(a.state_dict(), a, b, BATCHES, weight=2.0)


def test_the_divergence_is_that_which_is_learned_from() -> None:
    a, b = (spread(mlp(), seed) for seed in (1, 2))
    merged = pg.merge(a, b)
    with torch.no_grad():
        outputs = [torch.func.functional_call(a, state, (ALL,)) for state in (merged, a.state_dict(), b.state_dict())]
        wanted = divergence(*(one.double() for one in outputs))
    assert pg.fidelity(merged, a, b, BATCHES).divergence == pytest.approx(float(wanted), rel=1e-5)


def test_an_aligned_merge_keeps_what_a_plain_one_loses() -> None:
    planted = plant(spread(mlp(64)), vectors())
    aligned = pg.align(planted.a, planted.b, args=(vectors()[0],))
    plain, moved = (
        pg.fidelity(pg.merge(planted.a, planted.b, alignment=how), planted.a, planted.b, vectors())
        for how in (None, aligned)
    )
    assert moved.merge == pytest.approx(1, abs=1e-5)
    assert plain.merge < 0.9
    assert str(moved).startswith("the merge keeps 100.0% of the mean of what A and B compute (logits, ")


def test_fidelity_refuses_what_heal_refuses() -> None:
    a = spread(mlp())
    with pytest.raises(pg.SpecMismatchError, match="not of one architecture"):
        pg.fidelity(Block(affine=True).state_dict(), a, a, BATCHES)
    with pytest.raises(pg.CalibrationError, match="empty"):
        pg.fidelity(a.state_dict(), a, a, [])
    with pytest.raises(pg.NonFiniteError, match="the merge"):
        pg.fidelity({k: t * torch.nan for k, t in a.state_dict().items()}, a, a, BATCHES)


def test_parents_that_differ_more_than_they_tell_are_said_to() -> None:
    said = str(pg.Fidelity(0.6, -7.2, 1e-4, "logits", 10))
    assert "the merge keeps 60.0% of" in said
    assert "each of them nothing, less than a constant would, on average" in said
