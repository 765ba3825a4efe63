"""Which layer of a larger model each layer of a smaller one becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.errors import SpecMismatchError

State = Mapping[str, Tensor]
WIDEST = 4096
"""For matrices with more rows and columns, sorted elements are compared instead of singular values."""


def places_of_layers(a: State, b: State) -> dict[str, tuple[int, ...]]:
    """Prefix of a stack of layers -> the number in A of each layer of B, for the stacks of other lengths.

    The layers of B stay in order, and are placed so that the singular values of their matrices and the sorted elements
    of their vectors are closest in total: neither depends on the order of units. Raises SpecMismatchError if a stack of
    B is longer.
    """
    mine, theirs = _stacks(a), _stacks(b)
    found = {}
    for prefix, layers in theirs.items():
        whole = mine.get(prefix, [])
        if len(layers) > len(whole):
            raise SpecMismatchError(
                f"{prefix or 'the model'} has {len(layers)} layers in B and {len(whole)} in A: the larger model is A, "
                "swap the two"
            )
        if len(layers) < len(whole):
            found[prefix] = _placed(_distances(prefix, a, b, len(whole), len(layers)))
    return found


def in_a(name: str, layers: Mapping[str, Sequence[int]]) -> str:
    """The name in A of a tensor of B."""
    for prefix, places in layers.items():
        found = re.match(rf"{re.escape(prefix)}(\d+)\.", name)
        if found is not None:
            return f"{prefix}{places[int(found[1])]}.{name[found.end() :]}"
    return name


def _stacks(state: State) -> dict[str, list[int]]:
    """Prefix -> the numbers from 0 that follow it, if the names after each of them are the same."""
    inner: dict[str, dict[int, set[str]]] = {}
    for name in state:
        for found in re.finditer(r"(?<![^.])\d+\.", name):
            here = inner.setdefault(name[: found.start()], {})
            here.setdefault(int(found[0][:-1]), set()).add(name[found.end() :])
    return {
        prefix: sorted(layers)
        for prefix, layers in inner.items()
        if sorted(layers) == list(range(len(layers))) and len({frozenset(names) for names in layers.values()}) == 1
    }


def _distances(prefix: str, a: State, b: State, count_a: int, count_b: int) -> Any:
    """|spectra of layer i of A - spectra of layer j of B|², relative to those of A, [i, j]."""
    ends = sorted(name.removeprefix(f"{prefix}0.") for name in b if name.startswith(f"{prefix}0."))
    found = np.zeros((count_a, count_b))
    for end in ends:
        if f"{prefix}0.{end}" not in a or not a[f"{prefix}0.{end}"].is_floating_point():
            continue
        mine = [_spectrum(a[f"{prefix}{i}.{end}"]) for i in range(count_a)]
        theirs = [_spectrum(b[f"{prefix}{j}.{end}"]) for j in range(count_b)]
        size = max(map(len, (*mine, *theirs)))
        wide = [np.stack([np.pad(one, (0, size - len(one))) for one in side]) for side in (mine, theirs)]
        squares = np.square(wide[0][:, None] - wide[1][None]).sum(-1)
        found += squares / max(np.square(wide[0]).sum(-1).mean(), np.finfo(float).tiny)
    return found


def _spectrum(tensor: Tensor) -> Any:
    wide = tensor.detach().double().cpu()
    matrix = wide.reshape(wide.shape[0], -1) if wide.dim() > 1 else None
    if matrix is not None and min(matrix.shape) <= WIDEST:
        return torch.linalg.svdvals(matrix).numpy()
    return wide.reshape(-1).sort(descending=True).values.numpy()


def _placed(distances: Any) -> tuple[int, ...]:
    """argmin Σ distances[i_j, j] over i_0 < i_1 < …, by dynamic programming."""
    count_a, count_b = distances.shape
    best = np.full((count_a + 1, count_b + 1), np.inf)
    best[:, 0] = 0
    for i in range(1, count_a + 1):
        for j in range(1, count_b + 1):
            best[i, j] = min(best[i - 1, j], best[i - 1, j - 1] + distances[i - 1, j - 1])
    places, i = [], count_a
    for j in range(count_b, 0, -1):
        while best[i, j] == best[i - 1, j]:
            i -= 1
        places.append(i - 1)
        i -= 1
    return tuple(reversed(places))
