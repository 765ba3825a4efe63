"""Inputs that hide a group, as zeros do, do not hide it from the proof, which tries other values too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.proof.drawn_inputs import drawn_inputs
from permgraph.tracing.capture import capture

ROWS, PADDING = 11, 1


class Attending(nn.Module):
    """Attention over tokens, which are compared with that of padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head = nn.Embedding(ROWS, 8), nn.Linear(8, 3)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8, bias=False) for _ in range(4))

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.tokens(ids.view(-1, ids.shape[-1])) * (ids != PADDING)[..., None]
        q, k, v = (f(x).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        allowed = None if mask is None else mask[:, None, None].bool()
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.head(x + self.o(mixed.transpose(1, 2).flatten(2)))


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))


class OneHot(nn.Module):
    """Tokens, each as zeros and a one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.head = nn.Linear(ROWS, 6, bias=False), nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.inner(nn.functional.one_hot(ids, ROWS).float()))


def cnn() -> nn.Module:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
    return nn.Sequential(*first, nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))


HIDING = {
    "zeros": (mlp, torch.zeros(4, 5)),
    "ones": (mlp, torch.ones(4, 5)),
    "black images": (cnn, torch.zeros(2, 3, 8, 8)),
    "one token": (Attending, torch.full((2, 5), 3)),
    "one class": (OneHot, torch.full((2, 5), 3)),
    "token 0": (Attending, torch.zeros(2, 5, dtype=torch.long)),
}


@pytest.mark.parametrize("name", HIDING)
def test_a_wrong_group_is_seen_though_the_example_hides_it(name: str) -> None:
    make, x = HIDING[name]
    model = make().eval()
    spec = pg.derive(model, (x,))
    certificate = pg.verify(model, (x,), spec=spec)
    assert certificate
    assert certificate.power == 1
    assert certificate.drawn == ("args[0]",)
    for tensor, layout in spec.layouts.items():
        still = Layout(layout.shape, tuple(replace(cell, moves=()) for cell in layout.cells))
        wrong = replace(spec, layouts={**spec.layouts, tensor: still})
        assert still == layout or not pg.verify(model, (x,), spec=wrong), tensor


IDS = torch.tensor([[2, 5, PADDING, 4]])
STAY = {
    "a mask of truth values": torch.tensor([[True, False, True, True]]),
    "a mask of integers": torch.tensor([[1, 1, 0, 1]]),
    "a mask of zeros and ones": torch.tensor([[1.0, 1.0, 0.0, 1.0]]),
    "a mask of minus infinity": torch.tensor([[0.0, 0.0, -torch.inf, 0.0]]),
    "a mask of large numbers": torch.tensor([[0.0, 0.0, -1e9, 0.0]]),
    "none": torch.zeros(1, 0),
}


def drawn(model: nn.Module, *inputs: Tensor, seed: int = 0) -> list[Tensor]:
    program = capture(model.eval(), inputs)
    names = [name for name, feed in program.feeds.items() if feed.kind == "input"]
    return list(drawn_inputs(program, dict(zip(names, inputs, strict=True)), seed).values())


class Beside(nn.Module):
    """A linear layer of tokens or numbers, with any further inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.a = nn.Embedding(ROWS, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x if x.is_floating_point() else self.tokens(x)), other


@pytest.mark.parametrize("name", STAY)
def test_masks_stay(name: str) -> None:
    ids, other = drawn(Beside(), IDS, STAY[name])
    assert other is STAY[name]
    assert not torch.equal(ids, IDS)


@pytest.mark.parametrize("seed", range(5))
def test_tokens_stay_in_their_range_and_those_of_padding_in_place(seed: int) -> None:
    (ids,) = drawn(Attending(), IDS, seed=seed)
    assert torch.equal(ids == PADDING, IDS == PADDING)
    assert ids[ids != PADDING].min() >= 2
    assert ids.max() <= 5
    (ids,) = drawn(Attending(), torch.full((2, 50), 3), seed=seed)
    assert 0 <= ids.min() < 3 < ids.max() < ROWS


def test_numbers_have_the_scale_and_the_sign_of_the_example() -> None:
    for x in (100 * torch.randn(50, 4), torch.rand(50, 4), torch.randn(50, 4) * 1j):
        found = drawn(nn.Identity(), x)[0]
        assert found.dtype == x.dtype
        assert found.abs().square().mean() == pytest.approx(x.abs().square().mean(), rel=0.5)
        assert x.is_complex() or bool((found >= 0).all()) == bool((x >= 0).all())
        assert not torch.equal(found, drawn(nn.Identity(), x, seed=1)[0])


class Factored(nn.Module):
    """Its operation takes positive matrices alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.a(torch.linalg.cholesky(x))


def test_the_example_is_used_alone_where_no_other_values_can_be_computed_with() -> None:
    x = torch.eye(5) + 0.1
    certificate = pg.verify(Factored().eval(), (x,))
    assert certificate
    assert certificate.drawn == ()
    assert str(certificate).endswith("; at these values of the inputs alone)")
