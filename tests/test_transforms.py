"""Models that use `torch.vmap` are derived and proved; those that differentiate by `torch.func` are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from judge import error
from torch import Tensor, nn
from torch._C._functorch import get_interpreter_stack
from zoo_rows import Case

import permgraph as pg
from permgraph.symmetry.proof.trials import Trial
from permgraph.tracing.capture import capture
from permgraph.tracing.run import bind


class Net(nn.Module):
    """A linear layer, a transform of its units, and a linear layer."""

    def __init__(self, transformed: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.transformed = transformed
        self.a, self.b, self.w = nn.Linear(5, 8), nn.Linear(8, 3), nn.Parameter(torch.randn(8))
        self.many = nn.Parameter(torch.randn(3, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.transformed(self, self.a(x)).relu())
        return h + torch.vmap(lambda w: h @ w.mT @ w)(self.many).sum(0)


VMAP = {
    "rows times weights": lambda s, h: torch.vmap(lambda row, w: row * w, in_dims=(0, None))(h, s.w),
    "sorted rows": lambda s, h: torch.vmap(lambda row: row.sort()[0] * 1.0)(h),
    "rows that are written to": lambda s, h: torch.vmap(lambda row: row.mul_(torch.arange(8.0)))(h.clone()),
}


@pytest.mark.parametrize("name", VMAP)
def test_groups_of_models_with_vmap_are_sound_and_proved(name: str) -> None:
    case = Case(Net(VMAP[name]).eval(), (torch.randn(4, 5),))
    assert error(case, pg.derive(case.model, case.args), 0) < 1e-12
    assert pg.verify(case.model, case.args)
    assert get_interpreter_stack() is None


def test_vmap_is_left_where_an_operation_fails() -> None:
    model, x = Net(lambda s, h: torch.vmap(lambda row: row.view(torch.int32).float())(h)).eval(), torch.randn(4, 5)
    program = capture(model, (x,))
    trial = Trial(program, pg.derive(model, (x,)), model.state_dict(), bind(program, (x,), {}))
    with pytest.raises(pg.VerificationError, match=r"aten\.view .*cannot be computed in float64"):
        trial.outputs(0)
    assert get_interpreter_stack() is None


DERIVATIVES = {
    "grad": lambda s, h: torch.func.grad(lambda z: (z.tanh() * s.w).sum())(h),
    "jvp": lambda s, h: torch.func.jvp(torch.sin, (h,), (torch.ones_like(h),))[1],
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_by_torch_func_are_refused(name: str) -> None:
    with pytest.raises(pg.CaptureError, match=r"forward pass differentiates by torch\.func.* write the derivative out"):
        pg.derive(Net(DERIVATIVES[name]).eval(), (torch.randn(4, 5),))
    assert get_interpreter_stack() is None
