"""Calls of recurrent layers: they judge `permgraph.rules.recurrent`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _layer(op: Callable[..., Any], states: int) -> Callable[..., Tensor]:
    def run(x: Tensor, *weights: Tensor) -> Tensor:
        state = torch.zeros(1, x.shape[0], weights[1].shape[1], dtype=x.dtype)
        hx = [state] * states if states > 1 else state
        result: Tensor = op(x, hx, list(weights), True, 1, 0.0, False, False, True)[0]
        return result

    return run


def _two_layers(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Without biases, and with states that are given."""
    result: tuple[Tensor, ...] = torch.lstm(x, [h, c], list(weights), False, 2, 0.0, False, False, True)
    return result


def _both_ways(x: Tensor, h: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """In both directions, with a state that is given, and with time first."""
    result: tuple[Tensor, ...] = torch.gru(x, h, list(weights), True, 1, 0.0, False, True, False)
    return result


def _lstm_cell(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    return torch.lstm_cell(x, [h, c], *weights)


EXAMPLES = (
    ("lstm", _layer(torch.lstm, 2), (2, 3, 5), (16, 5), (16, 4), (16,), (16,)),
    ("gru", _layer(torch.gru, 1), (2, 3, 5), (12, 5), (12, 4), (12,), (12,)),
    ("rnn_tanh", _layer(torch.rnn_tanh, 1), (2, 3, 5), (4, 5), (4, 4), (4,), (4,)),
    ("lstm_cell", _lstm_cell, (2, 5), (2, 4), (2, 4), (16, 5), (16, 4), (16,), (16,)),
    ("gru_cell", torch.gru_cell, (2, 5), (2, 4), (12, 5), (12, 4), (12,), (12,)),
)

OTHER_FORMS = (
    ("rnn_tanh_cell", torch.rnn_tanh_cell, (2, 5), (2, 4), (4, 5), (4, 4), (4,), (4,)),
    ("rnn_relu_cell", torch.rnn_relu_cell, (2, 5), (2, 4), (4, 5), (4, 4), (4,), (4,)),
    ("rnn_relu", _layer(torch.rnn_relu, 1), (2, 3, 5), (4, 5), (4, 4), (4,), (4,)),
    ("lstm", _two_layers, (2, 3, 5), (2, 2, 4), (2, 2, 4), (16, 5), (16, 4), (16, 4), (16, 4)),
    ("gru", _both_ways, (3, 2, 5), (2, 2, 4), *((12, 5), (12, 4), (12,), (12,)) * 2),
)
