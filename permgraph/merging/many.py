"""More than two models into one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.comparing.models import Models
from permgraph.errors import OptionError, SpecMismatchError
from permgraph.matching.many import Placement
from permgraph.merging import METHODS
from permgraph.symmetry.parts import Index
from permgraph.symmetry.permutations import checked
from permgraph.symmetry.spec import PermutationSpec, memory_of


def merge_many(
    models: Sequence[nn.Module],
    permutations: Sequence[Mapping[str, Index]],
    *,
    weights: Sequence[float] | None = None,
    method: str = "linear",
    spec: PermutationSpec | None = None,
) -> dict[str, Tensor]:
    """Σ weight_m · P_m θ_m as a new state dict, for permutations from `match_many` (or any others, with `spec`).

    `weights` are the shares of the models, equal by default; they must sum to 1. Computed in float32 or wider, one
    entry at a time, and returned in the first model's dtypes; what is not floating point is the first model's. Tied
    weights stay tied. Methods other than "linear" know two models only: slerp has no one meaning for more.

    Raises:
        SpecMismatchError: models that differ in architecture, or permutations that do not fit them.
        CheckpointError: a weight is not finite.
        OptionError: an unknown method, one for two models given more, or weights that are not shares.

    """
    states = Models.of(models).states
    shares = _shares(weights, len(models))
    if method not in METHODS:
        raise OptionError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    if method != "linear" and len(models) > 2:
        raise OptionError(f'method "{method}" merges two models, {len(models)} are given: use "linear"')
    if len(permutations) != len(models):
        raise SpecMismatchError(f"{len(permutations)} permutations for {len(models)} models: give one for each")
    known = spec or next((p.spec for p in permutations if isinstance(p, Placement)), None)
    if known is None:
        raise SpecMismatchError("these permutations do not come from match_many: pass the specification as spec=")
    known.check(states[0], "model 1")
    tables = [checked(known.groups, own) for own in permutations]
    done: dict[Any, Tensor] = {}
    for name, first in states[0].items():
        if memory_of(first) not in done:
            moved = (known.apply_one(own, name, state[name]) for own, state in zip(tables, states, strict=True))
            done[memory_of(first)] = _merged(moved, shares, method)
    return {name: done[memory_of(first)] for name, first in states[0].items()}


def _merged(moved: Iterable[Tensor], shares: Sequence[float], method: str) -> Tensor:
    tensors = iter(moved)
    first = next(tensors)
    if not first.is_floating_point():
        return first.clone()
    wide = torch.promote_types(first.dtype, torch.float32)
    if method != "linear":
        return METHODS[method].merge(first.to(wide), next(tensors).to(first.device, wide), shares[0]).to(first.dtype)
    total = shares[0] * first.to(wide)
    for share, tensor in zip(shares[1:], tensors, strict=True):
        total += share * tensor.to(first.device, wide)
    return total.to(first.dtype)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    if len(weights) != count or not all(0 <= w <= 1 for w in weights) or abs(sum(weights) - 1) > 1e-6:
        raise OptionError(f"weights are {count} shares between 0 and 1 that sum to 1, not {list(weights)}")
    return list(weights)
