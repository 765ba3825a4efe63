"""Stacked recurrent layers: one operation for each layer, the same function, and units compared between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from permgraph.comparing.points import find_points
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.tracing.capture import capture
from permgraph.tracing.program import op_name
from permgraph.tracing.run import Runner, bind


class Stack(nn.Module):
    """Recurrent layers that are read at every step, and in their last states."""

    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.layers = kind(3, 4, num_layers=3, batch_first=True, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y, last = self.layers(x)
        return (y, *last) if isinstance(last, tuple) else (y, last)


FORMS: tuple[tuple[Callable[..., nn.Module], dict[str, Any]], ...] = (
    (nn.LSTM, {}),
    (nn.LSTM, {"bidirectional": True, "dropout": 0.5}),
    (nn.LSTM, {"proj_size": 2, "bias": False}),
    (nn.GRU, {"bidirectional": True}),
    (nn.RNN, {"nonlinearity": "relu"}),
)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("kind", "options"), FORMS)
@pytest.mark.parametrize("shape", [(2, 5, 3), (5, 3)])
def test_layers_one_by_one_compute_the_same(kind: Any, options: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Stack(kind, **options).eval(), torch.randn(shape)
    program, state = capture(model, (x,)), model.state_dict()
    found = Runner(program, state.__getitem__).outputs(bind(program, (x,), {}))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, model(x), strict=True))
    names = [op_name(node.target) for node in program.graph.graph.nodes]
    assert sum(name.startswith(("aten.lstm", "aten.gru", "aten.rnn")) for name in names) == 3


def test_units_of_a_lower_layer_are_compared_at_every_step() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack, self.head = Stack(nn.LSTM), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(self.stack(x)[0])
            return found

    derivation = Derivation(capture(Net().eval(), (torch.randn(2, 5, 3),)), "fixed", {})
    names = [bundle for bundle in derivation.grouping.names.values() if bundle]
    points = find_points(derivation, names)
    assert [point.frame_count for point in points] == [2 * 5] * 3
