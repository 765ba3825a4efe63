"""Every model of the zoo: an element planted in a copy is found again, by weights and by correlation, exactly."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pairs import spread
from test_zoo import derived, parameters
from torch import Tensor, nn
from zoo import Row

import permgraph as pg

BATCHES = 16
MORE_BATCHES = {"more than 8192 units": 160}
"""Rows of so many units that some are let through by ReLU on the same few frames alone."""
QUICK = (
    "mlp", "residual mlp", "residual cnn", "grouped conv", "depthwise conv", "DenseNet", "LSTM, 1 layers",
    "multi-query", "rotary, half", "QK-norm", "tokens", "HubertModel",
    "GPT2LMHeadModel", "LlamaForCausalLM", "MixtralForCausalLM",
)  # fmt: skip


def rows() -> Iterator[Any]:
    """All rows, in the default run a few of every kind."""
    for entry in parameters():
        quick = entry.id in QUICK
        yield entry if quick else pytest.param(*entry.values, id=entry.id, marks=[*entry.marks, pytest.mark.slow])


def told_apart(model: nn.Module) -> nn.Module:
    """A copy in which no two units are alike."""
    return spread(copy.deepcopy(model))


def batches(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], count: int) -> list[Any]:
    """As many inputs like these, drawn anew, by keyword where there are keywords."""
    if kwargs:
        names = list(inspect.signature(model.forward).parameters)
        return [
            {k: another(v, n) for k, v in (dict(zip(names, args, strict=False)) | kwargs).items()} for n in range(count)
        ]
    return [tuple(another(value, number) for value in args) for number in range(count)]


def another(value: Any, seed: int) -> Any:
    """Inputs like these, drawn anew: token ids from those that occur, floats from normal distributions.

    Their deviations differ, so that ReLU lets every unit through somewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(value, Tensor) and value.is_floating_point():
        return (torch.randn(value.shape, generator=generator) * (1 + seed % 4)).to(value.dtype)
    if isinstance(value, Tensor) and value.dtype == torch.int64:
        return torch.randint(int(value.max()) + 1, value.shape, generator=generator)
    return value


@pytest.mark.parametrize("method", ["weights", "correlation"])
@pytest.mark.parametrize("row", list(rows()))
def test_a_planted_element_is_recovered_exactly(row: Row, method: str) -> None:
    case, spec = derived(row)
    a = told_apart(case.model)
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(1), a.state_dict()))
    count = MORE_BATCHES.get(row.name, BATCHES)
    data = batches(case.model, case.args, case.kwargs, count) if method == "correlation" else None
    found = pg.align(a, b, data, args=case.args, kwargs=case.kwargs, spec=spec, method=method)
    moved, wanted = found.state_dict, a.state_dict()
    wrong = [name for name in wanted if not torch.equal(moved[name], wanted[name])]
    assert not wrong, f"{len(wrong)} of {len(wanted)} differ, first {wrong[:3]}"


def test_a_point_that_no_input_reaches_says_nothing_and_one_alone_is_refused() -> None:
    """A class token is constant before the first layer; the stream is matched where it is not."""

    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.token = nn.Linear(5, 6), nn.Parameter(torch.randn(1, 1, 6))
            self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], 1)
            return self.head(tokens + torch.tanh(self.mix(tokens)))

    torch.manual_seed(0)
    a = Token().eval()
    spec = pg.derive(a, (torch.randn(2, 3, 5),))
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(1), a.state_dict()))
    found = pg.align(a, b, [torch.randn(8, 3, 5) for _ in range(2)], spec=spec)
    assert found.permutations == spec.invert(spec.sample(1))
    with pytest.raises(pg.CalibrationError, match="are constant"):
        pg.align(a, b, [torch.ones(8, 3, 5) for _ in range(2)], spec=spec)
