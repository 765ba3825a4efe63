"""Parameters, buffers and constants that are one memory are one tensor, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg


class Branches(nn.Module):
    """Two branches with units of their own; a buffer scales their sum, and a constant is added."""

    def __init__(self, share: Callable[[Branches], None]) -> None:
        super().__init__()
        self.a, self.c, self.b = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)
        self.h, self.g = (nn.Linear(8, 8, bias=False) for _ in range(2))
        self.register_buffer("v", torch.randn(8))
        self.constant = torch.randn(8)
        share(self)

    def forward(self, x: Tensor) -> Tensor:
        summed = self.h(self.a(x).relu()).relu() + self.g(self.c(x).relu()).relu()
        return self.b(summed * self.v + self.constant)


def by_data(m: Branches) -> None:
    m.g.weight = nn.Parameter(m.h.weight.data)


def by_slab(m: Branches) -> None:
    slab = torch.randn(128)
    m.h.weight, m.g.weight = (nn.Parameter(slab[k : k + 64].view(8, 8)) for k in (0, 64))


def overlapping(m: Branches) -> None:
    slab = torch.randn(12, 8)
    m.h.weight, m.g.weight = nn.Parameter(slab[:8]), nn.Parameter(slab[4:])


def transposed(m: Branches) -> None:
    m.g.weight = nn.Parameter(m.h.weight.data.T)


def as_a_view(m: Branches) -> None:
    m.v = m.h.weight.data[2]


def interleaved(m: Branches) -> None:
    slab = torch.randn(8, 16)
    m.h.weight, m.g.weight = nn.Parameter(slab[:, ::2]), nn.Parameter(slab[:, 1::2])


def constant_of(m: Branches) -> None:
    m.constant = m.a.bias.data


def constant_view(m: Branches) -> None:
    m.constant = m.h.weight.data[:, 0]


@pytest.mark.parametrize(
    ("share", "sizes"),
    [(by_data, [8]), (by_slab, [8, 8]), (interleaved, [8, 8]), (constant_of, [8, 8])],
)
def test_what_is_certified_is_what_is_loaded(share: Callable[[Branches], None], sizes: list[int]) -> None:
    torch.manual_seed(0)
    model, x = Branches(share).eval(), torch.randn(50, 5)
    spec = pg.derive(model, x)
    assert [group.size for group in spec.groups] == sizes
    assert pg.verify(model, x, spec=spec)
    with torch.no_grad():
        before = model(x)
        model.load_state_dict(spec.apply(spec.sample(1), model.state_dict()))
        assert torch.allclose(model(x), before, atol=1e-5)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (overlapping, r"h\.weight and g\.weight share memory, but not as one tensor"),
        (transposed, r"h\.weight and g\.weight share memory"),
        (as_a_view, r"(v and h\.weight|h\.weight and v) share memory"),
        (constant_view, r"constant, which is not part of the state dict, shares memory with h\.weight"),
    ],
)
def test_a_part_that_is_shared_is_refused(share: Callable[[Branches], None], message: str) -> None:
    with pytest.raises(pg.CaptureError, match=message):
        pg.derive(Branches(share).eval(), torch.randn(4, 5))


def test_a_slab_on_meta_is_told_apart_too() -> None:
    with torch.device("meta"):
        model = Branches(by_data).eval()
        assert len(pg.derive(model, torch.randn(4, 5)).groups) == 1
        with pytest.raises(pg.CaptureError, match="share memory"):
            pg.derive(Branches(overlapping).eval(), torch.randn(4, 5))


class Noisy(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def test_a_part_in_training_mode_is_refused_by_name() -> None:
    model = nn.Sequential(Noisy(), nn.ReLU()).eval()
    model[0][1].train()
    with pytest.raises(pg.CaptureError, match=r"0\.1 \(Dropout\) is in training mode: call model\.eval\(\)"):
        pg.derive(model, torch.randn(4, 5))
