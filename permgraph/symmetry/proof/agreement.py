"""Whether two runs agree: every element of every output is compared at its own scale."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-8  # of an element's spread; float64 leaves about 1e-13 on a hundred layers
INSIDE = 1000  # rounding errors may be this many times larger than the one observed
ULPS = 8 * torch.finfo(torch.float64).eps


class Scales:
    """The spread of every output element over draws of parameters: the largest value less the smallest.

    Draws are left out where the element is not finite, or equals one of `literals`, the numbers that the program itself
    contains: an element that is sometimes filled has the scale of its other values. An element that no draw changes has
    spread 0, and must agree exactly. Along a dimension whose size differs from draw to draw, as that of x[mask] does,
    all elements have one scale.
    """

    def __init__(self, literals: Collection[float] = ()) -> None:
        self.literals = torch.tensor(sorted(literals), dtype=torch.float64, device="cpu")
        self.low: list[Tensor | None] = []
        self.high: list[Tensor | None] = []

    def draw(self, outputs: Sequence[Any]) -> None:
        """Widen the spreads by the outputs at further parameters."""
        self.low = self.low or [None] * len(outputs)
        self.high = self.high or [None] * len(outputs)
        for k, leaf in enumerate(outputs):
            if isinstance(leaf, Tensor):
                value = as_real(leaf)
                counts = torch.isfinite(value) & torch.isin(value, self.literals.to(value.device), invert=True)
                low, high = torch.where(counts, value, torch.inf), torch.where(counts, value, -torch.inf)
                self.low[k], self.high[k] = _negative(larger(_negative(self.low[k]), -low)), larger(self.high[k], high)

    def errors(self, gaps: Sequence[Tensor], floors: Sequence[Tensor | None] | None = None) -> list[float]:
        """For each output, the largest gap in units of its element's spread.

        A gap below the element's rounding floor is an error below the tolerance, whatever the spread.
        """
        found = []
        for k, gap in enumerate(gaps):
            scale = self._scale(k, None if floors is None else floors[k])
            error = torch.where(gap == 0, 0.0, gap / scale)
            found.append(error.max().item() if error.numel() else 0.0)
        return found

    def weights(self, floors: Sequence[Tensor | None], seed: int) -> list[Tensor | None]:
        """For each output 1 / scale with random signs, over the square root of the number of all output elements.

        The sum of all errors with these weights is about the root mean square of the errors. None for an output of
        which no element varies.
        """
        generator = torch.Generator().manual_seed(seed)
        scales = [self._scale(k, floor) for k, floor in enumerate(floors)]
        count = max(1, sum(int((scale > 0).sum()) for scale in scales))
        found: list[Tensor | None] = []
        for scale, low in zip(scales, self.low, strict=True):
            signs = (
                torch.randint(2, scale.shape, generator=generator, dtype=torch.float64, device="cpu").to(scale.device)
                * 2
                - 1
            )
            weight = torch.where(scale > 0, signs / scale, 0.0) / count**0.5
            found.append(None if low is None or not weight.any() else weight)
        return found

    def _scale(self, output: int, floor: Tensor | None) -> Tensor:
        low, high = self.low[output], self.high[output]
        scale = (
            torch.zeros((), dtype=torch.float64, device="cpu")
            if low is None or high is None
            else (high - low).clamp(min=0.0)
        )
        return scale if floor is None else torch.maximum(scale, floor / TOLERANCE)


def larger(one: Tensor | None, other: Tensor) -> Tensor:
    """The larger of two tensors at each element; along dimensions in which their sizes differ, the largest of both."""
    if one is None or one.numel() == 0 or other.numel() == 0:
        return other if one is None or one.numel() == 0 else one
    if one.dim() != other.dim():
        return torch.maximum(one.max(), other.max())
    differ = [dim for dim, sizes in enumerate(zip(one.shape, other.shape, strict=True)) if sizes[0] != sizes[1]]
    sides = (side.amax(differ, keepdim=True) if differ else side for side in (one, other))
    return torch.maximum(*sides)


def _negative(value: Tensor | None) -> Tensor | None:
    return None if value is None else -value


def gaps(expected: Sequence[Any], found: Sequence[Any]) -> list[Tensor]:
    """|found - expected| of every element of every output; infinite where one of them is not finite and they differ, or
    where their sizes do.
    """
    return [_gap(x, y) for x, y in zip(expected, found, strict=True)]


def _gap(expected: Any, found: Any) -> Tensor:
    if not isinstance(expected, Tensor):
        return torch.tensor(0.0 if expected == found else torch.inf, dtype=torch.float64, device="cpu")
    a, b = as_real(expected), as_real(found)
    if a.shape != b.shape:
        return torch.full([1] * a.dim(), torch.inf, dtype=torch.float64, device="cpu")
    same = (a == b) | (torch.isnan(a) & torch.isnan(b))
    return (a - b).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill(same, 0.0)


def rounding_floors(expected: Sequence[Any], jittered: Iterable[Sequence[Any]]) -> list[Tensor]:
    """The gaps that rounding explains, from outputs at several parameters that differ in their last bits.

    An element that is only rounding error may agree in all of them by chance, so its floor is the largest gap along a
    dimension of the output: the dimension on which this is smallest, since one coordinate may be as large as 1e12.
    """
    rounding = functools.reduce(lambda x, y: list(map(torch.maximum, x, y)), (gaps(expected, y) for y in jittered))
    return [
        torch.maximum(INSIDE * _along_lines(gap), ULPS * as_real(x).abs().nan_to_num(nan=0.0, posinf=0.0))
        if isinstance(x, Tensor)
        else gap
        for x, gap in zip(expected, rounding, strict=True)
    ]


def _along_lines(gap: Tensor) -> Tensor:
    """For each element, the least over dimensions of more than one element of the maximum along that dimension."""
    lines = [gap.amax(dim, keepdim=True) for dim, size in enumerate(gap.shape) if size > 1]
    return functools.reduce(torch.minimum, lines).expand_as(gap) if lines else gap


def as_real(value: Tensor) -> Tensor:
    """A tensor in float64 on the CPU, complex numbers as pairs."""
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    return value.to("cpu", torch.float64)
