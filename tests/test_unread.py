"""What the traced pass does not read: it never moves by itself, moves along with what is read, and is listed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import permgraph as pg

LONG, SHORT, WIDTH = 12, 5, 6


class Reads(nn.Module):
    """A linear layer, a function of its result that reads a part of a parameter, and a linear layer."""

    def __init__(self, body, *shape: int, dim: int = WIDTH) -> None:
        super().__init__()
        self.body, self.mode = body, 0
        self.inward, self.outward = nn.Linear(3, WIDTH), nn.Linear(dim, 2)
        self.table = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.outward(self.body(self, self.inward(x)).tanh())


def heads(s: Reads, h: Tensor) -> Tensor:
    q = h.unflatten(-1, (2, 3)).transpose(1, 2)
    scores = (q @ q.transpose(-1, -2) + s.table[:, : h.shape[1], : h.shape[1]]).softmax(-1)
    return (scores @ q).transpose(1, 2).flatten(-2)


CASES = {
    "a position table": (lambda s, h: h + s.table[:, : h.shape[1]], (1, LONG, WIDTH), "table[:, 5:12]"),
    "a scaled position table": (lambda s, h: h + (s.table * s.inward.bias)[: h.shape[1]], (LONG, WIDTH), "table[5:12]"),
    "the last position": (lambda s, h: h + s.table[h.shape[1] - 1], (LONG, WIDTH), "table[0:4+5:12]"),
    "a kernel": (lambda s, h: h * s.table[:, : h.shape[1]].T, (WIDTH, LONG), "table[:, 5:12]"),
    "a mixing matrix": (
        lambda s, h: s.table[: h.shape[1], : h.shape[1]] @ h,
        (LONG, LONG),
        "table[:, 5:12], table[5:12, 0:5]",
    ),
    "a bias between positions": (heads, (2, LONG, LONG), "table[:, :, 5:12], table[:, 5:12, 0:5]"),
    "every other position": (
        lambda s, h: h + s.table[: 2 * h.shape[1] : 2],
        (2 * LONG, WIDTH),
        "table[1:2+3:4+5:6+7:8+9:24]",
    ),
    "a bank of tasks": (lambda s, h: F.linear(h, s.table[s.mode]), (3, WIDTH, WIDTH), "table[1:3]"),
    "a bank of scales": (lambda s, h: h * s.table[:, s.mode], (WIDTH, 4), "table[:, 1:4]"),
}


def other_passes(model: Reads) -> list[Tensor]:
    """What the model gives at other lengths and in other modes."""
    found = []
    with torch.no_grad():
        for length, mode in ((SHORT, 0), (SHORT, 2), (LONG, 0), (1, 1)):
            model.mode = mode
            found.append(model(torch.randn(2, length, 3, generator=torch.Generator().manual_seed(length)).double()))
    model.mode = 0
    return found


@pytest.mark.parametrize("kinds", ["permutation", "signed"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_read_moves_with_what_is(name: str, kinds: str) -> None:
    body, shape, text = CASES[name]
    torch.manual_seed(0)
    model = Reads(body, *shape).double().eval()
    spec = pg.derive(model, torch.randn(2, SHORT, 3).double(), kinds=kinds)
    assert ", ".join(spec.parts_unread("table")) == text
    assert spec.unreached == ()
    assert any(WIDTH in (group.size, group.size * group.count) for group in spec.groups)
    assert all(group.size <= WIDTH for group in spec.groups)
    before = other_passes(model)
    for seed in range(3):
        model.load_state_dict(spec.apply(spec.sample(seed), model.state_dict()))
        assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(before, other_passes(model), strict=True))


def test_units_of_parts_that_move_apart_stay_where_nothing_reads_them() -> None:
    """Two tasks are read and have hidden units of their own; the third could follow either, and stays."""

    def body(s: Reads, h: Tensor) -> Tensor:
        one, two = (F.linear(F.linear(h, s.table[k]).relu(), s.table[k].T) for k in range(2))
        return one + two

    torch.manual_seed(0)
    model = Reads(body, 3, 4, WIDTH).eval()
    spec = pg.derive(model, torch.randn(2, SHORT, 3))
    assert sorted(group.size for group in spec.groups) == [4, 4, WIDTH]
    moved = spec.apply(spec.sample(1), model.state_dict())["table"]
    assert torch.equal(moved[2].sort(-1).values, model.table[2].sort(-1).values)


def test_a_pass_that_reads_nothing_of_a_parameter_does_not_reach_it() -> None:
    def body(s: Reads, h: Tensor) -> Tensor:
        return torch.cat([h, h + s.table], 1)[:, : h.shape[1]]

    spec = pg.derive(Reads(body, SHORT, 1).eval(), torch.randn(2, SHORT, 3))
    assert spec.unreached == ("table",)
    assert spec.explain(("table", 0)).verdict == "unreached"
    assert not spec.unread


def test_a_parameter_that_is_tied_by_name_moves_along_that_axis_alone() -> None:
    model = Reads(lambda s, h: h, WIDTH, 4).eval()
    spec = pg.derive(model, torch.randn(2, SHORT, 3), tie={("table", 0): ("inward.weight", 0)})
    assert [(group.size, ("table", 0) in group.axes) for group in spec.groups] == [(WIDTH, True)]
    assert spec.unreached == ("table",)
    assert "no tie by name" in str(spec.explain(("table", 1)))


def test_a_specification_says_what_is_not_read() -> None:
    body, shape, text = CASES["a position table"]
    spec = pg.derive(Reads(body, *shape).eval(), torch.randn(2, SHORT, 3))
    assert f"not read by the forward pass at these shapes: {text}" in str(spec)
    again = pg.PermutationSpec.from_json(spec.to_json())
    assert again.unread == spec.unread == {"table": ((((0, 1),), ((5, 12),), ((0, WIDTH),)),)}
    assert f"  not read by the forward pass at these shapes: {text}" in str(spec.explain(("table", 1)))
