"""The proof at a second length: made where the model takes one, named, and able to refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

import permgraph as pg

LENGTH, WIDTH = 8, 6


class Tokens(nn.Module):
    """Tokens with positions from a table, one hidden layer, and a function of it and the length."""

    def __init__(self, then=lambda model, hidden: hidden, positions: int = 32) -> None:
        super().__init__()
        self.then = then
        self.tokens, self.places = nn.Embedding(9, WIDTH), nn.Parameter(torch.randn(positions, WIDTH))
        self.hidden, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.tokens(ids) + self.places[: ids.shape[1]]
        if mask is not None:
            h = h * mask[..., None]
        return self.head(self.then(self, self.hidden(h).relu()))


def reversed_when_longer(model: Tokens, h: Tensor) -> Tensor:
    return h.flip(-1) if h.shape[1] > LENGTH else h


def cut_when_shorter(model: Tokens, h: Tensor) -> Tensor:
    if h.shape[1] > LENGTH:
        raise ValueError("no longer ones")
    return h if h.shape[1] == LENGTH else h.cumsum(-1)


def gpt2() -> nn.Module:
    return GPT2Model(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, n_positions=LENGTH))


IDS = torch.randint(0, 9, (2, LENGTH), generator=torch.Generator().manual_seed(0))
TAKEN = {
    "longer": (lambda: Tokens(), (IDS,), {}, [(2, 10)]),
    "shorter alone": (lambda: Tokens(positions=LENGTH), (IDS,), {}, [(2, 4)]),
    "a mask of that length": (lambda: Tokens(), (IDS,), {"mask": torch.ones(2, LENGTH)}, [(2, 10), (2, 10)]),
    "images": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
        (torch.randn(2, 3, 16, 16),),
        {},
        [(2, 3, 20, 20)],
    ),
    "positions by number": (gpt2, (), {"input_ids": IDS}, [(2, 4)]),
    "features of one width": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)),
        (torch.randn(2, 5),),
        {},
        [],
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_proof_is_made_at_another_length_where_the_model_takes_one(name: str) -> None:
    make, args, kwargs, shapes = TAKEN[name]
    torch.manual_seed(0)
    certificate = pg.verify(make().eval(), args, kwargs)
    assert certificate
    assert certificate.other_path == ""
    found = [shape for _, shape in certificate.other_inputs]
    assert found == shapes
    assert all(str(list(shape)) in str(certificate) for shape in found)


@pytest.mark.parametrize(
    ("then", "operation"), [(reversed_when_longer, "aten.flip"), (cut_when_shorter, "aten.cumsum")]
)
def test_a_group_that_holds_at_one_length_alone_is_refused(then, operation: str) -> None:
    torch.manual_seed(0)
    model = Tokens(then).eval()
    certificate = pg.verify(model, (IDS,))
    assert not certificate
    assert certificate.failing
    assert operation in certificate.other_path
    assert certificate.other_path in str(certificate)


def test_what_another_length_does_otherwise_is_said_where_the_group_holds() -> None:
    certificate = pg.verify(Tokens(lambda model, h: h.tanh() if h.shape[1] > LENGTH else h).eval(), (IDS,))
    assert certificate
    assert "with other operations from aten.tanh" in str(certificate)


def test_rows_that_the_pass_does_not_read_are_seen_at_another_length() -> None:
    """A wrong specification, which moves the positions that are not read along another axis than the others."""
    torch.manual_seed(0)
    model = Tokens(positions=WIDTH + LENGTH).eval()
    spec = pg.derive(model, (IDS,))
    whole, part = (pg.derive(Tokens(positions=n).eval(), (IDS,)).layouts["places"] for n in (LENGTH, WIDTH + LENGTH))
    still = replace(
        part, cells=tuple(replace(cell, moves=() if cell.offsets[0] else cell.moves) for cell in part.cells)
    )
    assert whole.groups == part.groups
    assert still != part
    certificate = pg.verify(model, (IDS,), spec=replace(spec, layouts={**spec.layouts, "places": still}))
    assert not certificate
    assert [shape for _, shape in certificate.other_inputs] == [(2, 10)]


def test_an_alignment_of_a_model_with_unread_positions_is_proved_at_two_lengths() -> None:
    torch.manual_seed(0)
    a, b = Tokens().eval(), Tokens().eval()
    assert pg.align(a, b, args=(IDS,)).certificate.other_inputs == (("args[0]", (2, 10)),)
    a, b = Tokens(reversed_when_longer).eval(), Tokens(reversed_when_longer).eval()
    with pytest.raises(pg.VerificationError, match=r"aten\.flip"):
        pg.align(a, b, args=(IDS,))
