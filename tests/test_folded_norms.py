"""Norms whose weight is written otherwise than as a factor: folding gives it the value at which it scales by 1."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import permgraph as pg
from permgraph.symmetry.derivation.folding import NO_READER


class Scaled(nn.Module):
    """A linear layer, an RMS norm with a scale made of its weight, another linear layer; perhaps a norm after it."""

    def __init__(
        self, scale: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (8,), *, after: bool = False
    ) -> None:
        super().__init__()
        self.a, self.b, self.scale, self.after = nn.Linear(5, 8, bias=False), nn.Linear(8, 8), scale, after
        self.weight, self.last = nn.Parameter(torch.rand(shape) + 0.1), nn.Parameter(torch.rand(8) + 0.1)
        self.out = nn.Linear(8, 3)

    def forward(self, input: Tensor) -> Tensor:
        x = self.a(input)
        h = self.b(normalised(x) * self.scale(self.weight))
        return self.out(normalised(x + (normalised(h) * self.last if self.after else h)))


def normalised(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


WRITTEN: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...], float]] = {
    "w": (lambda w: w, (8,), 1.0),
    "1 + w": (lambda w: 1.0 + w, (8,), 0.0),
    "cast": (lambda w: 1 + w.to(torch.float64).float(), (8,), 0.0),
    "3 - w / 2": (lambda w: 3 - w / 2, (8,), 4.0),
    "-2 (w - 1)": (lambda w: (w - 1) * -2, (8,), 0.5),
    "-w, added twice": (lambda w: torch.add(-w, 5, alpha=2), (8,), 9.0),
    "of three axes": (lambda w: w, (1, 1, 8), 1.0),
}
INPUTS = (torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0)),)


def built(scale: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (8,), *, after: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return Scaled(scale, shape, after=after).eval()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_folded_weight_scales_by_one(name: str) -> None:
    scale, shape, neutral = WRITTEN[name]
    model = built(scale, shape)
    before = model(*INPUTS)
    folded = pg.fold(model, INPUTS)
    assert folded.report == {"weight": ("b.weight",)}
    assert bool((folded.state_dict["weight"] == neutral).all())
    model.load_state_dict(folded.state_dict)
    torch.testing.assert_close(model(*INPUTS), before)
    spec = pg.derive(model, INPUTS, kinds="all")
    assert spec.held == ("weight",)
    assert {group.kind for group in spec.groups if group.size == 8} == {"orthogonal"}
    assert pg.verify(model, INPUTS, spec=spec).ok


def test_folded_models_of_such_norms_are_matched_and_merged() -> None:
    model = built(lambda w: 1 + w)
    other = built(lambda w: 1 + w)
    folded = pg.fold(other, INPUTS)
    other.load_state_dict(folded.state_dict)
    spec = pg.derive(other, INPUTS, kinds="all")
    other.load_state_dict(spec.apply(spec.sample(1), other.state_dict()))
    aligned = pg.align(model, other, args=INPUTS, kinds="all")
    assert not aligned.reference["weight"].any()
    merged = pg.merge(model, other, alignment=aligned)
    before = model(*INPUTS)
    model.load_state_dict(merged)
    torch.testing.assert_close(model(*INPUTS), before, rtol=1e-4, atol=1e-5)


def no_function_of_one_number(w: Tensor) -> Tensor:
    return w.exp()


def of_two_values(w: Tensor) -> Tensor:
    return w * (1 + w)


@pytest.mark.parametrize("scale", [no_function_of_one_number, of_two_values])
def test_other_functions_of_a_weight_stay(scale: Callable[[Tensor], Tensor]) -> None:
    assert not pg.fold(built(scale), INPUTS).folded


def test_a_norm_after_a_block_keeps_its_weight() -> None:
    report = pg.fold(built(lambda w: 1 + w, after=True), INPUTS).report
    assert report == {"weight": ("b.weight",), "last": NO_READER}


class Tied(nn.Module):
    """A stream that is read by what writes it; with a norm on its way, untying lets it not rotate all the same."""

    def __init__(self, *, after: bool) -> None:
        super().__init__()
        self.inner = Scaled(lambda w: 1 + w, after=after)
        self.inner.a, self.inner.out = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.inner.out.weight = self.inner.a.weight
        self.norm = nn.Parameter(torch.rand(8) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner
        x = F.embedding(x, inner.a.weight)
        h = inner.b(normalised(x) * inner.scale(inner.weight))
        h = normalised(h) * inner.last if inner.after else h
        return inner.out(normalised(x + h) * self.norm)


@pytest.mark.parametrize("after", [False, True])
def test_a_tied_weight_comes_apart_only_where_the_stream_rotates_then(after: bool) -> None:
    torch.manual_seed(0)
    folded = pg.fold(Tied(after=after).eval(), (torch.arange(6)[None],), untie=True)
    assert folded.untied == (() if after else ("inner.out.weight",))
    assert ("norm" in folded.folded) is not after
