"""Which layer of a larger model each layer of a smaller one becomes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.units import Slices, units

State = Mapping[str, Tensor]
Layers = Mapping[str, tuple[int, ...]]
Part = tuple[tuple[str, Slices], ...]
TINY = float(np.finfo(float).tiny)
WIDEST = 4096
"""For matrices with more rows and columns, sorted elements are compared instead of singular values."""


def first_places(a: State, b: State) -> dict[str, tuple[int, ...]]:
    """Prefix of a stack of layers -> the first numbers in A, one for each layer of B, for the stacks of other lengths.

    Raises SpecMismatchError if a stack of B is longer.
    """
    mine, theirs = _stacks(a), _stacks(b)
    for prefix, layers in theirs.items():
        if len(layers) > len(mine.get(prefix, [])):
            raise SpecMismatchError(
                f"{prefix or 'the model'} has {len(layers)} layers in B and {len(mine.get(prefix, []))} in A: the "
                "larger model is A, swap the two"
            )
    return {prefix: tuple(layers) for prefix, layers in theirs.items() if len(layers) < len(mine[prefix])}


@dataclass(frozen=True)
class Placing:
    """Places the layers of B among those of A, where `b` is B at A's sizes with its layers at `layers`.

    The layers stay in order, and are placed so that what no order of units changes is closest in total: the singular
    values of matrices and the sorted elements of vectors; with `rotated`, their norms, which no rotation changes. If B
    has fewer units of a group, each of its units is compared with the unit of A that is closest.

    Attributes:
        spec: A's specification.
        a: A's weights.
        b: B's, at A's sizes.
        layers: where B's layers are in `b`.
        sizes: group -> how many units B has.
        rotated: whether the weights are equal but for rotations too.

    """

    spec: PermutationSpec
    a: State
    b: State
    layers: Layers
    sizes: Mapping[str, int]
    rotated: bool

    def places(self) -> dict[str, tuple[int, ...]]:
        """Prefix of a stack -> the number in A of each layer of B."""
        count = {prefix: len(layers) for prefix, layers in _stacks(self.spec.shapes).items()}
        return {prefix: _placed(self._distances(prefix, count[prefix])) for prefix in self.layers}

    def _distances(self, prefix: str, count: int) -> Any:
        """How far layer j of B is from layer i of A, relative to the size of those of A, [i, j]."""
        found = np.zeros((count, len(self.layers[prefix])))
        known: dict[tuple[int, str], list[Tensor]] = {}
        for j, place in enumerate(self.layers[prefix]):
            for part, own in self._parts(f"{prefix}{place}."):
                key = len(part), str(part[0])
                if key not in known:
                    known[key] = [self._features(self.a, f"{prefix}{i}.", part) for i in range(count)]
                theirs = self._features(self.b, f"{prefix}{place}.", [part[k] for k in own])
                size = max(float(torch.stack([mine.square().sum() for mine in known[key]]).mean()), TINY)
                found[:, j] += [_squares(mine, theirs) / size for mine in known[key]]
        return found

    def _parts(self, layer: str) -> Iterator[tuple[list[Part], list[int]]]:
        """What is compared, by names below a layer: units of a group, with the numbers of those that B has; tensors."""
        seen = set[str]()
        for group in self.spec.groups:
            found = units(self.spec, group) if group.name in self.sizes else ()
            if found and all(name.startswith(layer) for name, _ in found[0]):
                seen.update(name for name, _ in found[0])
                below = [tuple((name.removeprefix(layer), index) for name, index in unit) for unit in found]
                yield below, [k for k, unit in enumerate(found) if unit.index[-1] < self.sizes[group.name]]
        for name, tensor in self.a.items():
            if name.startswith(layer) and name not in seen and tensor.is_floating_point():
                yield [((name.removeprefix(layer), ()),)], [0]

    def _features(self, state: State, layer: str, parts: Sequence[Part]) -> Tensor:
        """For each part, what no order of units changes, [parts, features]."""
        rows = ([self._spectrum(state[f"{layer}{name}"][index]) for name, index in part] for part in parts)
        return torch.stack([torch.cat(row) for row in rows])

    def _spectrum(self, tensor: Tensor) -> Tensor:
        wide = tensor.detach().double().cpu().squeeze()
        if self.rotated and wide.dim() < 2:
            norm: Tensor = torch.linalg.vector_norm(wide)
            return norm.view(1)
        matrix = wide.reshape(wide.shape[0], -1) if wide.dim() > 1 else None
        if matrix is not None and min(matrix.shape) <= WIDEST:
            values: Tensor = torch.linalg.svdvals(matrix)
            return values
        return torch.sort(wide.reshape(-1), descending=True).values


def _squares(mine: Tensor, theirs: Tensor) -> float:
    """Σ over rows of `theirs` of the square of the distance to the closest row of `mine`."""
    return float(torch.cdist(theirs, mine).square().min(1).values.sum())


def in_a(name: str, layers: Mapping[str, Sequence[int]]) -> str:
    """The name in A of a tensor of B."""
    for prefix, places in layers.items():
        found = re.match(rf"{re.escape(prefix)}(\d+)\.", name)
        if found is not None:
            return f"{prefix}{places[int(found[1])]}.{name[found.end() :]}"
    return name


def _stacks(state: Mapping[str, object]) -> dict[str, list[int]]:
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
