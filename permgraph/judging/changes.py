"""Changes of signs, scales and mixtures that an operation follows: are they in the claimed group?

A candidate is a one-parameter group exp(t X) on each of its axes, with an exponent there: its direction at the operands
and results is compared with the directions of the group that the rule claims. Signs are compared as masks of 1 and -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.matrices import complement_of_ones
from permgraph.judging.directions import directions, sign_masks
from permgraph.judging.one_call import Axis, OneCall, State, equal, subsets
from permgraph.symmetry.specification.spec import PermutationSpec

TIME = 0.7  # t, far enough from 0 that the change is not small
SMALL = 1e-6


@dataclass(frozen=True)
class Missed:
    """A kind of change that the operation allows on some axes, inputs then outputs, and the claim does not."""

    kind: str
    axes: tuple[Axis, ...]
    exponents: tuple[float, ...]

    def __str__(self) -> str:
        written = (f"{name}[{dim}]" for name, dim in self.axes)
        powers = ("" if e == 1 else f"^{e:g}" for e in self.exponents)
        return f"{self.kind} on " + ", ".join(a + b for a, b in zip(written, powers, strict=True))


@dataclass(frozen=True)
class _Change:
    """exp(exponent · t · X) on each axis, or X itself, a diagonal of signs; for exponent -1 the inverse transposed."""

    exponents: Mapping[Axis, float]
    matrix: Tensor
    discrete: bool

    def __call__(self, name: str, value: Tensor) -> Tensor:
        for (where, dim), exponent in self.exponents.items():
            if where == name:
                value = _along(self._element(exponent), value, dim)
        return value

    def _element(self, exponent: float) -> Tensor:
        if self.discrete:
            return self.matrix
        element: Tensor = torch.linalg.matrix_exp(TIME * self._generator(exponent))
        return element

    def _generator(self, exponent: float) -> Tensor:
        return exponent * (self.matrix if exponent > 0 else self.matrix.mT)

    def direction(self, name: str, value: Tensor) -> Tensor:
        """The derivative at t = 0."""
        total = torch.zeros_like(value)
        for (where, dim), exponent in self.exponents.items():
            if where == name:
                total += _along(self._generator(exponent), value, dim)
        return total


def _along(matrix: Tensor, value: Tensor, dim: int) -> Tensor:
    moved = torch.tensordot(matrix.to(value.dtype), value, ([1], [dim]))
    return torch.movedim(moved, 0, dim).contiguous()


@dataclass
class Changes:
    """What a call allows beyond permutations and beyond `spec`, its claim with all kinds."""

    call: OneCall
    spec: PermutationSpec
    states: Sequence[State]

    @cached_property
    def results(self) -> list[list[Tensor]]:
        """The results for each of the states."""
        return [self.call.results(state) for state in self.states]

    @cached_property
    def _points(self) -> list[dict[str, Tensor]]:
        """Operands and floating results by name, for each of the states."""
        return [
            state | {f"result {k}": value for k, value in enumerate(results) if value.is_floating_point()}
            for state, results in zip(self.states, self.results, strict=True)
        ]

    def missed(self) -> Iterator[Missed]:
        """The largest kinds that are missed on each set of axes of one size."""
        sizes = {(name, dim): size for name, value in self._points[0].items() for dim, size in enumerate(value.shape)}
        for size in sorted(set(sizes.values())):
            alike = [axis for axis, n in sizes.items() if n == size]
            operands = [axis for axis in alike if not axis[0].startswith("result")]
            results = [axis for axis in alike if axis[0].startswith("result")]
            for chosen in subsets(operands, 1):
                for out in subsets(results, 0):
                    yield from self._missed_on(chosen, out, size)

    def _missed_on(self, chosen: tuple[Axis, ...], out: tuple[Axis, ...], size: int) -> Iterator[Missed]:
        for kind, matrices in _generators(size):
            for exponents in _exponents(kind, len(chosen), len(out)):
                by_axis = dict(zip((*chosen, *out), exponents, strict=True))
                changes = [_Change(by_axis, matrix, kind == "sign") for matrix in matrices]
                if any(self._holds(change) and not self._is_claimed(change) for change in changes):
                    yield Missed(kind, (*chosen, *out), exponents)
                    return

    def _holds(self, change: _Change) -> bool:
        return all(
            equal(
                [change(f"result {k}", value) for k, value in enumerate(before)],
                self.call.results({name: change(name, value) for name, value in state.items()}),
            )
            for state, before in zip(self.states, self.results, strict=True)
        )

    def _is_claimed(self, change: _Change) -> bool:
        if change.discrete:
            ones = {name: torch.ones_like(value) for name, value in self._points[0].items()}
            mask = torch.cat([change(name, value).flatten() for name, value in ones.items()])
            return _is_sum(self._masks, (mask < 0).numpy())
        parts = [change.direction(name, value).flatten() for point in self._points for name, value in point.items()]
        wanted = torch.cat(parts).double().nan_to_num()
        left = wanted - self._span @ (self._span.T @ wanted)
        return bool(left.norm() <= SMALL * max(1.0, float(wanted.norm())))

    @cached_property
    def _span(self) -> Tensor:
        """An orthonormal basis of the directions of the claim."""
        found = directions(self.spec, self.states, self.results).nan_to_num()
        if not found.numel():
            return found
        u, s, _ = torch.linalg.svd(found, full_matrices=False)
        basis: Tensor = u[:, s > SMALL * s[0].clamp(min=SMALL)]
        return basis

    @cached_property
    def _masks(self) -> Any:
        return sign_masks(self.spec, self.states[0], self.results[0])


def _generators(size: int) -> Iterator[tuple[str, list[Tensor]]]:
    """For each kind, the largest first, matrices X on `size` units; of signs the elements themselves."""
    pairs = list(combinations(range(size), 2))
    unit = torch.eye(size, dtype=torch.float64)
    mixed = [torch.outer(unit[i], unit[j]) for i, j in pairs]
    yield "invertible", mixed
    yield "rotation", [x - x.T for x in mixed]
    basis = torch.from_numpy(complement_of_ones(size)) if size > 2 else unit[:, :0]
    planes = [torch.outer(basis[:, i], basis[:, j]) for i, j in combinations(range(basis.shape[1]), 2)]
    yield "centred rotation", [x - x.T for x in planes]
    yield "scale", [torch.outer(row, row) for row in unit]
    yield "sign", [torch.eye(size, dtype=torch.float64) - 2 * torch.outer(row, row) for row in unit]


def _exponents(kind: str, operands: int, results: int) -> Iterator[tuple[float, ...]]:
    """An exponent for each axis, of the first 1."""
    sides = (1.0, -1.0) if kind in ("invertible", "scale") else (1.0,)
    powers = (1.0, -1.0, 2.0, 0.5) if kind == "scale" else sides
    for chosen in product(*([sides] * (operands - 1) + [powers] * results)):
        yield (1.0, *chosen)


def _is_sum(masks: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether a vector is a sum of rows, modulo 2."""
    rows: list[np.ndarray] = []
    for vector in (*masks, wanted):
        left = vector.copy()
        for row in rows:
            if left[np.argmax(row)]:
                left ^= row
        if left.any():
            rows.append(left)
    return not left.any()
