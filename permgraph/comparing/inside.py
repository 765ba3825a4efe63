"""Tensors inside operations in which units are compared too: the gates and the cells of recurrent layers.

The outputs y = σ(o) tanh(c) of two LSTMs can agree where their cells and gates do not, and weights are averaged gate by
gate. A rule names such a tensor (`Call.part` with a label); here is how it is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from permgraph.rules.recurrent import INSIDE

LABELS = {
    op: [f"{label}{number}" for number in (0, 1) for some in labels for label in some] for op, labels in INSIDE.items()
}
"""Operation -> the labels that its tensors inside can have."""


def inside_of(op: str, given: Mapping[str, Any], outputs: Tensor) -> dict[str, Tensor]:
    """Label -> tensor, in the order of `outputs`, for an operation with these arguments.

    "input", "forget" and "output" of an LSTM and "reset", "update" and "candidate" of a GRU are what a sigmoid or tanh
    reads, "cell" is c. A number follows: 0 for forwards, 1 for backwards.
    """
    x, y = ((one if given["batch_first"] else one.transpose(0, 1)) for one in (given["input"], outputs))
    directions = 2 if given["bidirectional"] else 1
    params, width = given["params"], y.shape[-1] // directions
    each = len(params) // directions
    states = given["hx"] if isinstance(given["hx"], list | tuple) else [given["hx"]]
    found: dict[str, Tensor] = {}
    for number in range(directions):
        own = y[..., number * width : (number + 1) * width]
        first = [state[number].unsqueeze(1) for state in states]
        last = torch.cat([own[:, 1:], first[0]] if number else [first[0], own[:, :-1]], 1)
        read = _projected(x, params[number * each :], 0, each), _projected(last, params[number * each :], 1, each)
        parts = _lstm(*read, first[1], number) if op == "aten.lstm" else _gru(*read)
        found |= {f"{label}{number}": part for label, part in parts.items()}
    return found if given["batch_first"] else {label: part.transpose(0, 1) for label, part in found.items()}


def _projected(x: Tensor, params: Any, k: int, each: int) -> Tensor:
    """W x, or U y, plus its bias if there is one."""
    found: Tensor = x @ params[k].T
    return found + params[2 + k] if each >= 4 else found


def _lstm(x: Tensor, last: Tensor, cell: Tensor, backwards: int) -> dict[str, Tensor]:
    i, f, g, o = (x + last).chunk(4, -1)
    kept, written, cells = f.sigmoid(), i.sigmoid() * g.tanh(), [cell[:, 0]]
    for step in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        cells.append(kept[:, step] * cells[-1] + written[:, step])
    ordered = torch.stack(cells[:0:-1] if backwards else cells[1:], 1)
    return {"input": i, "forget": f, "output": o, "cell": ordered}


def _gru(x: Tensor, last: Tensor) -> dict[str, Tensor]:
    (r, z, n), (own_r, own_z, own_n) = x.chunk(3, -1), last.chunk(3, -1)
    return {"reset": r + own_r, "update": z + own_z, "candidate": n + (r + own_r).sigmoid() * own_n}
