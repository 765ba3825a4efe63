"""Merges two models of one architecture, B moved to A first where an alignment is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from permgraph.errors import OptionError
from permgraph.matching.alignment import Alignment, require_pair
from permgraph.merging import METHODS, MergeMethod


def merge(
    model_a: nn.Module,
    model_b: nn.Module,
    *,
    alignment: Alignment | None = None,
    weight: float = 0.5,
    method: str = "linear",
) -> dict[str, Tensor]:
    """A new state dict between A and B', B moved by `alignment`; None merges B as it stands.

    `weight` is A's share: 1 is A, 0 is B'. Computed in float32 or wider, and returned in A's dtypes; what is not
    floating point (counters, index tables) is A's. Tied weights stay tied.

    Raises:
        SpecMismatchError: the models are not of one architecture.
        CheckpointError: a weight is not finite.
        OptionError: an unknown method, or a weight outside [0, 1].

    """
    if method not in METHODS:
        raise OptionError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    if not 0 <= weight <= 1:
        raise OptionError(f"weight is A's share, between 0 and 1, not {weight}")
    state_a, state_b = model_a.state_dict(), model_b.state_dict()
    require_pair(state_a, state_b)
    done: dict[int, Tensor] = {}
    result = {}
    for name, a in state_a.items():
        if id(a) not in done:
            b = state_b[name] if alignment is None else alignment.moved(name)
            done[id(a)] = _merged(METHODS[method], a.detach(), b.detach().to(a.device), weight)
        result[name] = done[id(a)]
    return result


def _merged(method: MergeMethod, a: Tensor, b: Tensor, weight: float) -> Tensor:
    if not a.is_floating_point():
        return a.clone()
    wide = torch.promote_types(a.dtype, torch.float32)
    return method.merge(a.to(wide), b.to(wide), weight).to(a.dtype)
