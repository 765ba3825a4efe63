"""Random programs: views, writes, strides, reversals, constants and parameters that are read more than once.

A program is a list of steps. Each applies an operation to values that earlier steps made, if their shapes allow it;
else it does nothing, so that every list is a program, and a part of a failing one is one too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_rows import Case

WIDTH = 6
MOST = 96  # elements of a sample

Step = tuple[str, int, int, int]
"""The name of an operation, the number of its value counted from the last, and two numbers that it chooses by."""


class Program(nn.Module):
    """Steps on an input [batch, 3], and a linear layer on the last values that were made. `met` names what was used."""

    def __init__(self, steps: Sequence[Step], seed: int = 0) -> None:
        super().__init__()
        self.steps, self.weights = tuple(steps), nn.ParameterList()
        self.met: set[str] = set()
        self.generator, self.used = torch.Generator().manual_seed(seed), -1
        with torch.no_grad():
            self.forward(torch.randn(2, 3, generator=self.generator))
        self.generator = None

    def weight(self, *shape: int) -> Tensor:
        """A new parameter of this shape; the same one whenever the program runs."""
        self.used += 1
        if self.generator is not None:
            drawn = torch.randn(shape, generator=self.generator) / max(shape[0], 1) ** 0.5
            self.weights.append(nn.Parameter(drawn))
        return self.weights[self.used]

    def earlier(self, number: int, *shape: int) -> Tensor | None:
        """A parameter of this shape that was read before, or None."""
        fitting = [weight for weight in list(self.weights)[: self.used + 1] if tuple(weight.shape) == shape]
        return fitting[number % len(fitting)] if fitting else None

    def forward(self, x: Tensor) -> Tensor:
        self.used = -1
        values = [torch.tanh(x @ self.weight(3, WIDTH))]
        for name, which, a, b in self.steps:
            value = values[-1 - which % len(values)]
            made = OPERATIONS[name](self, value, values, a, b)
            if made is not None and 0 < made[0].numel() <= MOST and made.shape[0] == 2:
                values.append(made)
                if self.generator is not None:
                    self.met.add(name)
        last = [value.flatten(1) for value in values[-2:]]
        return sum(value @ self.weight(value.shape[1], 2) for value in last)


def build(steps: Sequence[Step]) -> Case:
    """The program of these steps, with an input."""
    return Case(Program(steps).eval(), (torch.randn(2, 3, generator=torch.Generator().manual_seed(1)),))


Operation = Callable[[Program, Tensor, list[Tensor], int, int], Tensor | None]
OPERATIONS: dict[str, Operation] = {}


def operation(make: Operation) -> Operation:
    OPERATIONS[make.__name__] = make
    return make


def _dim(x: Tensor, a: int) -> int:
    """A dimension after the batch."""
    return 1 + a % (x.dim() - 1)


def _divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]


def _alike(x: Tensor, values: list[Tensor], a: int) -> Tensor:
    fitting = [value for value in values if value.shape == x.shape]
    return fitting[a % len(fitting)]


@operation
def linear(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    return x @ p.weight(x.shape[-1], (2, 3, 4, WIDTH)[a % 4])


@operation
def linear_again(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor | None:
    weight = p.earlier(a, x.shape[-1], (2, 3, 4, WIDTH)[b % 4])
    return None if weight is None else x @ weight


@operation
def transposed(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor | None:
    weight = p.earlier(a, (2, 3, 4, WIDTH)[b % 4], x.shape[-1])
    return None if weight is None else F.linear(x, weight)


@operation
def bias(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    shape = x.shape[_dim(x, a) :]
    return x + p.weight(*shape) if b % 2 else x * p.weight(*shape)


@operation
def part_of_a_weight(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    n = x.shape[-1]
    return [
        lambda w: x + w[:n],
        lambda w: x + w[::2][:n],
        lambda w: x * w[-n:].flip(0),
        lambda w: x + w.view(-1, 2)[:n, b % 2],
        lambda w: x + w.as_strided((n,), (2,), b % 2),
    ][a % 5](p.weight(2 * n + 2))


@operation
def unary(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    return (torch.relu, torch.tanh, torch.neg, torch.abs, F.gelu, torch.square, torch.sigmoid)[a % 7](x)


@operation
def binary(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    return (torch.add, torch.mul, torch.sub, torch.maximum)[b % 4](x, _alike(x, values, a))


@operation
def joined(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    other = _alike(x, values, a)
    return torch.cat([x, other], _dim(x, b)) if a % 2 else torch.stack([x, other], _dim(x, b))


@operation
def split(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    dim = _dim(x, a)
    sizes = _divisors(x.shape[dim])
    return x.unflatten(dim, (sizes[b % len(sizes)], -1))


@operation
def flattened(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor | None:
    return None if x.dim() < 3 else x.flatten(dim := 1 + a % (x.dim() - 2), dim + 1)


@operation
def reshaped(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    n = x[0].numel()
    sizes = _divisors(n)
    return x.reshape(2, sizes[a % len(sizes)], -1)


@operation
def turned(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    return x.transpose(_dim(x, a), _dim(x, b))


@operation
def sliced(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    dim = _dim(x, a)
    return x.narrow(dim, b % x.shape[dim], x.shape[dim] - b % x.shape[dim])


@operation
def strided(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    return x.transpose(1, _dim(x, a))[:, b % 2 :: 2].transpose(1, _dim(x, a))


@operation
def reversed_order(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    return x.flip(_dim(x, a)) if b % 2 else x.roll(1 + b, _dim(x, a))


@operation
def selected(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor | None:
    dim = _dim(x, a)
    return None if x.dim() < 3 else x.select(dim, b % x.shape[dim])


@operation
def gathered(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    dim = _dim(x, a)
    order = torch.tensor([(k * k + b) % x.shape[dim] for k in range(x.shape[dim])])
    return x.index_select(dim, order)


@operation
def windows(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor | None:
    dim = _dim(x, a)
    return None if x.shape[dim] < 2 else x.unfold(dim, 2, 1 + b % 2)


@operation
def diagonal(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor | None:
    return None if x.dim() < 3 else x.diagonal(0, -2, -1)


@operation
def constant(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    n = x.shape[-1]
    made = (torch.arange(n), torch.ones(n), (torch.arange(n) > b % n), torch.linspace(-1, 1, n))[a % 4].to(x.dtype)
    return x + made if b % 2 else x * made


@operation
def reduced(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    reduce = (torch.sum, torch.mean, torch.amax, torch.var)[b % 4]
    kept: dict[str, Any] = {"unbiased": False} if b % 4 == 3 else {}
    found = reduce(x, _dim(x, a), keepdim=True, **kept)
    return x - found if b // 4 % 2 else found


@operation
def normed(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    if b % 3 == 0:
        return F.layer_norm(x, x.shape[-1:])
    return x.softmax(_dim(x, a)) if b % 3 == 1 else x.cumsum(_dim(x, a))


@operation
def products(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor | None:
    other = _alike(x, values, a)
    return None if x.dim() < 3 else x @ other.transpose(-1, -2)


@operation
def written_slice(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    y, dim = x.clone(), _dim(x, a)
    part = y.narrow(dim, 0, 1 + b % y.shape[dim])
    [lambda: part.zero_(), lambda: part.mul_(2), lambda: part.copy_(part.flip(dim)), lambda: part.add_(1)][b % 4]()
    return y


@operation
def written_stride(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    y = x.clone()
    y[..., b % 2 :: 2] = _alike(x, values, a)[..., b % 2 :: 2]
    return y


@operation
def written_view(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    y = x.clone(memory_format=torch.contiguous_format)
    y.view(2, -1)[:, b % y[0].numel()].fill_(0.5) if a % 2 else y.transpose(1, -1)[:, 0].add_(1)
    return y


@operation
def written_whole(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    y, other = x.clone(), _alike(x, values, a)
    return [y.add_, y.mul_, y.copy_, y.sub_][b % 4](other)


@operation
def written_out(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    y = torch.zeros(2, 2 * x[0].numel()).to(x.dtype)
    y[:, ::2].copy_(x.reshape(2, -1)) if b % 2 else y[:, x[0].numel() :].copy_(x.reshape(2, -1))
    return y


@operation
def written_by_index(p: Program, x: Tensor, values: list[Tensor], a: int, b: int) -> Tensor:
    y, dim = x.clone(), _dim(x, a)
    return y.index_add_(dim, torch.tensor([b % y.shape[dim]]), y.narrow(dim, 0, 1).clone())
