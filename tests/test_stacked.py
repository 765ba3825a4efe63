"""Stacked recurrent layers: one operation for each layer, the same function, and units compared between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from permgraph.comparing.inside import inside_of
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
    assert [point.frame_count for point in points if not point.inside] == [2 * 5] * 3
    labels = ("cell0", "forget0", "input0", "output0")
    assert sorted((point.inside, point.frame_count) for point in points if point.inside) == [
        (label, 2 * 5) for label in labels for _ in range(3)
    ]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_outputs_follow_from_what_is_computed_inside(kind: Any, bias: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, bias=bias, batch_first=batch_first, bidirectional=True)
    x, h, c = (
        torch.randn(2, 5, 3),
        torch.randn(2, 2 if batch_first else 5, 4),
        torch.randn(2, 2 if batch_first else 5, 4),
    )
    hx = [h, c] if kind is nn.LSTM else h
    given = {"input": x, "hx": hx, "params": layer._flat_weights, "bidirectional": True, "batch_first": batch_first}
    y = layer(x, tuple(hx) if kind is nn.LSTM else hx)[0]
    found = inside_of("aten.lstm" if kind is nn.LSTM else "aten.gru", given, y)
    for number, own in enumerate(y.chunk(2, -1)):
        part = {name[:-1]: tensor for name, tensor in found.items() if name.endswith(str(number))}
        if kind is nn.LSTM:
            again = part["output"].sigmoid() * part["cell"].tanh()
        else:
            keeps, steps = part["update"].sigmoid(), own if batch_first else own.transpose(0, 1)
            first = h[number].unsqueeze(1)
            last = torch.cat([steps[:, 1:], first] if number else [first, steps[:, :-1]], 1)
            last = last if batch_first else last.transpose(0, 1)
            again = (1 - keeps) * part["candidate"].tanh() + keeps * last
        assert torch.allclose(again, own, atol=1e-6)
