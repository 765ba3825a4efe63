"""Canonical forms of small networks by hand: ties that are reported, low ranks, and what has no form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from canonical_forms import CLOSE, ROW, gap, prepared
from torch import Tensor, nn

import permgraph as pg


@dataclass(frozen=True)
class Tied:
    """A model in which something is tied, and whether the form is the only one all the same."""

    build: Callable[[], nn.Module]
    inputs: Tensor
    group: str
    says: str
    unique: bool


def mlp(activation: nn.Module, *changes: tuple[str, Any, Any]) -> nn.Module:
    """5 -> 6 -> 6 -> 3; then (name, index, value) of weights are set."""
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), activation, nn.Linear(6, 6), activation, nn.Linear(6, 3)]
    return changed(nn.Sequential(*layers), *changes)


def changed(model: nn.Module, *changes: tuple[str, Any, Any]) -> nn.Module:
    model = model.double().eval()
    with torch.no_grad():
        for name, index, value in changes:
            tensor = model.get_parameter(name)
            tensor[index] = torch.as_tensor(value, dtype=tensor.dtype)
    return model


class Normed(nn.Module):
    """A stream with an RMS norm between two layers of other units, orthogonal as some initialisations leave them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.d = nn.Linear(5, 8), nn.Linear(8, 4, bias=False), nn.Linear(4, 8), nn.Linear(8, 3)
        self.double()
        for layer in (self.b, self.c):
            nn.init.orthogonal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(torch.nn.functional.gelu(self.a(x)))
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.d(torch.nn.functional.gelu(self.c(h)))


class Kept(nn.Module):
    """Two layers of which the second is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.register_buffer("second", torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) @ self.second.T


class Shares(nn.Module):
    """Positive units as shares of their sum over time: where a unit is 0, it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.read, self.beside = nn.Linear(5, 4, bias=False), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.read(h / h.relu().sum(1, keepdim=True)) + self.beside(h)


X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PAIR = [0, 1], slice(None)
TIED = {
    "equal units": Tied(
        lambda: mlp(
            nn.ReLU(),
            ("0.weight", PAIR, torch.ones(2, 5)),
            ("0.bias", [0, 1], 0.5),
            ("2.weight", (slice(None), [0, 1]), torch.linspace(1, 2, 6)[:, None].expand(6, 2)),
        ),
        X,
        "0.hidden",
        "are equal",
        unique=True,
    ),
    "dead units": Tied(
        lambda: mlp(nn.ReLU(), ("0.weight", PAIR, 0.0), ("0.bias", [0, 1], 0.0)),
        X,
        "0.hidden",
        "are equal",
        unique=True,
    ),
    "units that change places together": Tied(
        lambda: mlp(
            nn.GELU(),
            ("0.weight", PAIR, torch.ones(2, 5)),
            ("0.bias", [0, 1], 0.5),
            ("2.weight", (slice(None), [0, 1]), [[1.0, 2.0], [2.0, 1.0], *[[1.0, 1.0]] * 4]),
            ("2.weight", ([0, 1], slice(2, 6)), 0.25),
            ("2.bias", [0, 1], 0.5),
            ("4.weight", (slice(None), [0, 1]), 0.75),
        ),
        X,
        "0.hidden",
        "nothing tells units 4 to 5 apart|nothing tells units . to . apart",
        unique=False,
    ),
    "orthogonal layers": Tied(lambda: changed(Normed()), X, "b.hidden", "directions of equal size", unique=False),
}


@pytest.mark.parametrize("name", TIED)
def test_ties_are_reported(name: str) -> None:
    tied = TIED[name]
    model = tied.build()
    form = pg.canonical(model, (tied.inputs,))
    (why,) = (text for group, text in form.ties.items() if group.endswith(tied.group) or tied.group in group)
    assert form.unique == tied.unique
    assert any(part in why for part in tied.says.split("|"))
    for seed in range(10 * tied.unique):
        moved = form.spec.apply(form.spec.sample(seed), model.state_dict())
        other = pg.canonical(moved, spec=form.spec)
        assert gap(form, other) < CLOSE
        assert other.ties.keys() == form.ties.keys()


def test_a_unit_without_incoming_weights_has_none_outgoing() -> None:
    model = mlp(nn.ReLU(), ("0.weight", 0, 0.0), ("0.bias", 0, 0.0))
    form = pg.canonical(model, (X,))
    assert int((form["0.weight"] == 0).all(1).sum()) == 1
    assert int((form["2.weight"] == 0).all(0).sum()) == 1
    assert form.unique


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_products_without_full_rank_have_one_form(rank: int) -> None:
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Linear(4, 6, bias=False)).double().eval()
    model[0].weight.data = torch.randn(4, rank).double() @ torch.randn(rank, 5).double()
    form = pg.canonical(model, (X,))
    assert form.unique
    for seed in range(5):
        moved = form.spec.apply(form.spec.sample(seed), model.state_dict())
        assert gap(form, pg.canonical(moved, spec=form.spec)) < CLOSE
    torch.testing.assert_close(form["1.weight"] @ form["0.weight"], model[1].weight @ model[0].weight)


def test_buffers_are_weights_too() -> None:
    torch.manual_seed(0)
    model = Kept().double().eval()
    form = pg.canonical(model, (X,))
    assert [group.kind for group in form.spec.groups] == ["invertible"]
    torch.testing.assert_close(form["second"] @ form["first.weight"], model.second @ model.first.weight)


def jump() -> nn.Module:
    torch.manual_seed(0)
    return changed(Shares(), ("beside.weight", (slice(None), 0), 0.0))


MLP = mlp(nn.ReLU())


class Bits(nn.Linear):
    """Reads the bits of its outputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).view(torch.int32)


REFUSED: dict[str, tuple[Callable[[], Any], type[pg.PermgraphError], str]] = {
    "a state dict alone": (lambda: pg.canonical(MLP.state_dict()), pg.OptionError, "give its spec, or the model"),
    "free outputs that scale": (
        lambda: pg.canonical(MLP, (X,), spec=pg.derive(MLP, (X,), kinds="all", outputs="free")),
        pg.OptionError,
        'outputs="fixed"',
    ),
    "a jump at 0": (lambda: pg.canonical(jump(), (X[None],)), pg.VerificationError, "output.* not continuous"),
    "another model's group": (
        lambda: pg.canonical(MLP.state_dict(), spec=prepared(ROW["mlp"], "all")[1]),
        pg.SpecMismatchError,
        "does not fit",
    ),
    "bits of numbers": (lambda: pg.canonical(Bits(5, 3).eval(), (X.float(),)), pg.VerificationError, "in float64"),
    "no numbers": (
        lambda: pg.canonical(mlp(nn.ReLU(), ("0.bias", 0, float("nan"))), (X,)),
        pg.NonFiniteError,
        "0.bias",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_the_form_of_a_jump_is_there_for_orders_and_signs() -> None:
    model = jump()
    form = pg.canonical(model, (X[None],), spec=pg.derive(model, (X[None],)))
    assert form.unique
