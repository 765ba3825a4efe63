"""What a module has kept of an earlier call is computed anew when it is traced, and stays with the user's model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import permgraph as pg

X = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))


class Kept(nn.Module):
    """Units scaled by a table that is looked up once for each device, as timm's models keep attention biases."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.table, self.kept = nn.Parameter(torch.randn(8, 4)), dict[str, Tensor]()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any) -> nn.Module:
        self.kept = {}
        return super()._apply(fn, *args)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        if str(x.device) not in self.kept:
            self.kept[str(x.device)] = self.table[:, [2]].T * 1.0
        return self.b(torch.relu(self.a(x)) * self.kept[str(x.device)])


def test_tensors_that_a_module_keeps_between_calls_are_not_constants() -> None:
    model = Kept().eval()
    expected = model(X)  # keeps a tensor with a gradient, which cannot be copied
    kept = model.kept["cpu"]
    spec = pg.derive(model, (X,))
    assert [group.size for group in spec.groups] == [8]
    assert not spec.unreached
    assert model.kept["cpu"] is kept
    other = Kept().eval()
    other.load_state_dict(spec.apply(spec.sample(0), model.state_dict()))
    assert torch.allclose(other(X), expected, atol=1e-6)
    pg.verify(model, (X,), spec=spec)


def test_the_curve_of_a_merge_is_that_of_its_weights() -> None:
    """Each model on the curve looks up its own weights, not those of the one before."""
    a, b = Kept().eval(), Kept().eval()
    with torch.no_grad():
        a(X), b(X)
        alignment = pg.align(a, b, [X], method="weights")
        found = pg.barrier(a, b, lambda model: model(X).square().sum().item(), alignment=alignment, weights=(0, 0.5, 1))
        merged = Kept().eval()
        merged.load_state_dict(pg.merge(a, b, alignment=alignment))
        assert abs(found.losses[1] - merged(X).square().sum().item()) < 1e-5
