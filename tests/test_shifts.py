"""The operations judge the shifts: behind a call, a bias takes back what it can, or a norm ignores a mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import permgraph as pg
from permgraph.judging.one_call import OneCall
from permgraph.rules.example import Example
from permgraph.rules.examples import EXAMPLES
from permgraph.symmetry.specification.shifts import Shift

QUICK = 6
STEP = 1e-5
BACK, IGNORED = " takes it back", " ignores it"


class Before(nn.Module):
    """A call, and behind its first result a bias of its last axis or of its first, or a norm along the last."""

    def __init__(self, example: Example, behind: str) -> None:
        super().__init__()
        self.call = OneCall(example).eval()
        given = {name: value.detach() for name, value in self.call.named_parameters()}
        result = self.call.results(given)[0]
        axis = {"bias": -1, "norm": -1, "rows": 0}[behind]
        self.behind, self.bias = behind, nn.Parameter(torch.randn(result.shape[axis], dtype=torch.float64))

    def forward(self, *given: Tensor) -> Tensor:
        result: Any = pytree.tree_leaves(self.call(*given))[0]
        if self.behind == "norm":
            return nn.functional.layer_norm(result, result.shape[-1:])
        extra = 0 if self.behind == "bias" else result.dim() - 1
        return result + self.bias.reshape(-1, *[1] * extra)


def fits(example: Example) -> bool:
    call = OneCall(example).eval()
    result = call.results({name: value.detach() for name, value in call.named_parameters()})[0]
    return result.dtype == torch.float64 and result.dim() > 0 and result.shape[-1] > 1 and result.numel() > 0


def chosen() -> list[Any]:
    fitting = [(k, example) for k, example in enumerate(EXAMPLES) if fits(example)]
    return [
        pytest.param(example, id=f"{example.op}-{k}", marks=[pytest.mark.slow] if place % QUICK else [])
        for place, (k, example) in enumerate(fitting)
    ]


@pytest.mark.parametrize("behind", ["bias", "rows", "norm"])
@pytest.mark.parametrize("example", chosen())
def test_no_shift_changes_the_function(example: Example, behind: str) -> None:
    model = Before(example, behind).eval()
    for shift in pg.derive(model, model.call.inputs, kinds="all").shifts:
        assert left_over(model, model.call.inputs, shift) < 1e-6, str(shift)


def left_over(model: nn.Module, inputs: tuple[Tensor, ...], shift: Shift) -> float:
    """How much of a random shift no bias takes back that is said to, relative to the same without the shift's form."""
    state = {name: tensor.detach() for name, tensor in model.named_parameters()}
    takers = [reason.removesuffix(BACK) for reason in shift.reasons if reason.endswith(BACK)]

    def column(name: str, direction: Tensor) -> Tensor:
        ends = [model_with(model, {**state, name: state[name] + sign * STEP * direction}, inputs) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * STEP)

    def columns(name: str) -> Tensor:
        units = torch.eye(state[name].numel(), dtype=torch.float64).reshape(-1, *state[name].shape)
        return torch.stack([column(name, unit) for unit in units], 1)

    own = columns(shift.tensor)
    made = own @ random_shift(state[shift.tensor], shift).flatten()
    if takers:
        given = torch.cat([columns(name) for name in takers], 1)
        made = made - given @ torch.linalg.lstsq(given, made[:, None], driver="gelsd").solution[:, 0]
    return float(made.norm()) / max(float(own.norm()), 1.0)


def model_with(model: nn.Module, state: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        result: Tensor = torch.func.functional_call(model, state, inputs)
        return result.flatten()


def random_shift(tensor: Tensor, shift: Shift) -> Tensor:
    """A tensor of zeros but for the shift's part, which is constant along its axes."""
    shape = [1 if dim in shift.along else size for dim, size in enumerate(tensor.shape)]
    values = torch.randn(shape, dtype=tensor.dtype).expand_as(tensor)
    if not shift.part:
        return values.clone()
    found = torch.zeros_like(tensor)
    for part in shift.part.split(" and "):
        index = [positions(text, size) for text, size in zip(part.split(", "), tensor.shape, strict=False)]
        place = torch.meshgrid(*map(torch.tensor, index), indexing="ij")
        found[place] = values[place]
    return found


def positions(text: str, size: int) -> list[int]:
    """The positions that an index names, such as `2:4+6:8`."""
    runs = [":".join(("0", str(size)))] if text == ":" else text.split("+")
    return [k for run in runs for k in range(*map(int, run.split(":")))]
