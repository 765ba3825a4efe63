"""Every model of the zoo: an element planted in a copy is found again, by weights and by correlation, exactly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_zoo import derived, parameters
from torch import Tensor, nn
from zoo import Row

import permgraph as pg
from permgraph.symmetry.verification import generic

BATCHES = 4
SAMPLES = 16  # a batch; a model whose sizes do not follow the inputs keeps its own


def told_apart(model: nn.Module) -> nn.Module:
    """A copy in which no two units are alike: all parameters and statistics away from 0 and 1."""
    other = copy.deepcopy(model)
    state = {
        name: generic(name, value, 0).to(value.dtype) if value.is_floating_point() else value
        for name, value in other.state_dict().items()
    }
    other.load_state_dict(state)
    return other


def another(value: Any, seed: int) -> Any:
    """Inputs like these, drawn anew: token ids from those that occur, floats from a normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.randn(value.shape, generator=generator).to(value.dtype)
    if isinstance(value, Tensor) and value.dtype == torch.int64:
        return torch.randint(int(value.max()) + 1, value.shape, generator=generator)
    return value


@pytest.mark.parametrize("method", ["weights", "correlation"])
@pytest.mark.parametrize("row", parameters())
def test_a_planted_element_is_recovered_exactly(row: Row, method: str) -> None:
    case, spec = derived(row)
    a = told_apart(case.model)
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(1), a.state_dict()))
    data = None
    if method == "correlation":
        data = [
            {
                "args": tuple(another(x, seed) for x in case.args),
                "kwargs": {name: another(x, seed) for name, x in case.kwargs.items()},
            }
            for seed in range(BATCHES)
        ]
        data = [batch["kwargs"] if case.kwargs and not case.args else batch["args"] for batch in data]
    found = pg.align(a, b, data, args=case.args, kwargs=case.kwargs, spec=spec, method=method)
    moved, wanted = found.state_dict, a.state_dict()
    wrong = [name for name in wanted if not torch.equal(moved[name], wanted[name])]
    assert not wrong, f"{len(wrong)} of {len(wanted)} differ, first {wrong[:3]}"
