"""What a merge is to do without labels: which outputs count, as what, and when the loss is least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.learning.objective import Objective, distance, divergence
from permgraph.tracing.capture import capture


class Returns(nn.Module):
    """A layer, and what is made of its result."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.head, self.make = nn.Linear(5, 8), nn.Linear(8, 3), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.head(torch.relu(self.inner(x))))


@pytest.mark.parametrize(
    ("make", "leaves"),
    [
        (lambda y: y, {0: "logits"}),
        (lambda y: 30 * torch.tanh(y.unsqueeze(1)[:, 0] / 30), {0: "logits"}),
        (lambda y: (y, y.tanh().mean(1)), {0: "logits"}),
        (lambda y: y.softmax(-1), {0: "features"}),
        (lambda y: (y.relu(), y.argmax(-1), y.sigmoid()), {0: "features", 2: "features"}),
        (lambda y: y[:, :1], {0: "features"}),
        (lambda y: {"hidden": y, "logits": y.log_softmax(-1)}, {1: "logits"}),
    ],
)
def test_outputs_say_what_they_are(make: Callable[[Tensor], Any], leaves: dict[int, str]) -> None:
    program = capture(Returns(make).eval(), (torch.randn(4, 5),))
    assert Objective(program).leaves == leaves
    assert set(Objective(program, "features").leaves.values()) == {"features"}
    assert set(Objective(program, "logits").leaves.values()) == {"logits"}


def test_the_objective_is_least_at_the_mean_of_the_parents() -> None:
    a, b, own = torch.randn(3, 7, 4).double().unbind()
    mean = (a.softmax(-1) + b.softmax(-1)) / 2
    assert float(divergence(mean.log(), a, b)) == pytest.approx(0, abs=1e-12)
    assert float(divergence(own, a, b)) > 0
    assert float(distance((a + b) / 2, a, b)) == 0
    assert float(distance(((a + b) / 2).mean(0).expand(7, 4), a, b)) == pytest.approx(1)


class Tagger(nn.Module):
    """Logits for each position, with a mask of padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 6), nn.Linear(6, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return {"logits": self.head(self.table(input_ids)) * attention_mask.unsqueeze(-1).float()}


def test_padding_does_not_count() -> None:
    ids, mask = torch.arange(6).reshape(2, 3), torch.tensor([[1, 1, 1], [1, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": mask}
    program = capture(Tagger().eval(), (), inputs)
    own, a, b = torch.randn(3, 2, 3, 4).unbind()
    loss = Objective(program)
    before = loss([own], ([a], [b]), inputs, ((), inputs))
    own[1, 1:] = 1e3
    assert torch.equal(before, loss([own], ([a], [b]), inputs, ((), inputs)))


def test_outputs_without_numbers_need_a_loss() -> None:
    program = capture(Returns(lambda y: y.argmax(-1)).eval(), (torch.randn(4, 5),))
    with pytest.raises(pg.OptionError, match="returns no tensor of real numbers: give a loss"):
        _ = Objective(program).leaves


def test_a_number_for_each_sample_is_a_feature() -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten(0)).eval() for _ in range(2)]
    found = pg.fidelity(pg.merge(*models), *models, [torch.randn(16, 3)])
    assert found.rows == 16
    assert found.merge < 1
    assert found.divergence < 10
