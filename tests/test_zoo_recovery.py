"""Every model of the zoo: an element planted in a copy is found again, by weights and by correlation, exactly."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator
from typing import Any

import pytest
import torch
import vision
import zoo_vision
from recovery import change, wrong
from test_zoo import derived, parameters
from torch import Tensor, nn
from zoo import Row

import permgraph as pg

QUICK = (
    "mlp", "residual mlp", "residual cnn", "grouped conv", "depthwise conv", "DenseNet", "LSTM, 1 layers",
    "multi-query", "rotary, half", "QK-norm", "tokens", "HubertModel",
    "GPT2LMHeadModel", "LlamaForCausalLM", "MixtralForCausalLM", "DeepseekV3ForCausalLM",
)  # fmt: skip

QUICK_OF_ALL_KINDS = (
    "mlp", "rotary, grouped queries", "windows", "channel shuffle", "gated mlp, chunk", "soft mixture of experts",
    "grouped conv", "GroupNorm", "bias with dims of size 1", "QK-norm", "heads as modules", "DebertaV2Model",
    "LSTM, 1 layers", "GRU both ways, 2 layers", "LSTM with projection",
)  # fmt: skip
DIGITS = 1e-5


def rows(known: Container[str]) -> Iterator[Any]:
    """All rows, in the default run a few of every kind."""
    for entry in parameters():
        quick = entry.id in known
        yield entry if quick else pytest.param(*entry.values, id=entry.id, marks=[*entry.marks, pytest.mark.slow])


@pytest.mark.parametrize("method", ["weights", "correlation"])
@pytest.mark.parametrize("row", list(rows(QUICK)))
def test_a_planted_element_is_recovered_exactly(row: Row, method: str) -> None:
    assert not wrong(*derived(row), method)


@pytest.mark.filterwarnings("ignore:.*also returns:permgraph.errors.PermgraphWarning")
@pytest.mark.parametrize("method", ["weights", "correlation"])
@pytest.mark.parametrize("row", list(rows(QUICK_OF_ALL_KINDS)))
def test_a_planted_element_of_all_kinds_is_recovered(row: Row, method: str) -> None:
    assert change(row.build(), method) < DIGITS


@pytest.mark.slow
@pytest.mark.skipif(not vision.available(), reason="timm and torchvision are not installed; `make test` installs them")
@pytest.mark.filterwarnings("ignore::Warning:timm.*", "ignore::Warning:torchvision.*")
@pytest.mark.parametrize("method", ["weights", "correlation"])
@pytest.mark.parametrize("row", parameters(zoo_vision.ROWS))
def test_published_vision_models(row: Row, method: str) -> None:
    assert not wrong(*derived(row), method)


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
