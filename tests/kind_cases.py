"""Small models whose kinds of symmetry are known, and how an element of any kind is put to the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from deficit_cases import Recurrent, turned
from torch import Tensor, nn

from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass(frozen=True)
class KindCase:
    """A model, its inputs, and the (kind, size, count) of its groups with all kinds."""

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]
    groups: frozenset[tuple[str, int, int]]
    dimension: int


def mlp(activation: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(5, 8), activation, nn.Linear(8, 3))


class WrittenOutNorm(nn.Module):
    """An RMS norm of four operations, with or without a weight."""

    def __init__(self, *, weight: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8, bias=False), nn.Linear(8, 3)
        self.weight = nn.Parameter(torch.rand(8) + 0.5) if weight else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.b(h if self.weight is None else self.weight * h)


class Stepped(nn.Module):
    """A recurrent cell with ReLU, step by step, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(3, 3, nonlinearity="relu"), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state)


class Block(nn.Module):
    """A pre-norm attention block on a stream of 8 with 2 heads; `affine` norms have weights away from 1."""

    def __init__(self, *, affine: bool) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(5, 8), nn.Linear(8, 3)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.first, self.second = (nn.LayerNorm(8) for _ in range(2))
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        for norm in (self.first, self.second) if affine else ():
            nn.init.uniform_(norm.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inward(x)
        h = self.first(x)
        q, k, v = (f(h).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + self.o(mixed)
        return self.outward(x + self.down(F.relu(self.up(self.second(x)))))


class Gated(nn.Module):
    """SwiGLU: the gate is only permuted, the other branch takes signs and scales."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class FusedRotary(nn.Module):
    """Queries, keys and values as slices of one linear layer, with rotary positions that cut each head in halves."""

    def __init__(self, *, into_memory: bool) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(5, 8), nn.Linear(8, 3)
        self.qkv, self.o, self.into_memory = nn.Linear(8, 24), nn.Linear(8, 8), into_memory

    def forward(self, x: Tensor) -> Tensor:
        x = self.inward(x)
        fused = self.qkv(x)
        q, k, v = (fused[..., s : s + 8].unflatten(-1, (2, 4)).transpose(1, 2) for s in (0, 8, 16))
        mixed = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True).transpose(1, 2).flatten(2)
        if self.into_memory:
            whole = torch.empty_like(mixed)
            whole[..., :4], whole[..., 4:] = mixed[..., :4], mixed[..., 4:]
            mixed = whole
        return self.outward(x + self.o(mixed))


HEADS = frozenset({("permutation", 2, 1), ("invertible", 4, 2), ("scaled", 12, 1)})
X = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TIME = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SEQUENCE = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

KIND_CASES = (
    KindCase("relu", mlp(nn.ReLU()), (X,), frozenset({("scaled", 8, 1)}), 8),
    KindCase("tanh", mlp(nn.Tanh()), (X,), frozenset({("signed", 8, 1)}), 0),
    KindCase("rnn", lambda: Recurrent(nn.RNN), (TIME,), frozenset({("signed", 3, 1)}), 0),
    KindCase("relu rnn cell", Stepped, (TIME,), frozenset({("scaled", 3, 1)}), 3),
    KindCase("gelu", mlp(nn.GELU()), (X,), frozenset({("permutation", 8, 1)}), 0),
    KindCase("linear", mlp(nn.Identity()), (X,), frozenset({("invertible", 8, 1)}), 64),
    KindCase("rms norm", lambda: WrittenOutNorm(weight=False), (X,), frozenset({("orthogonal", 8, 1)}), 28),
    KindCase(
        "rms norm with a weight",
        lambda: WrittenOutNorm(weight=True),
        (X,),
        frozenset({("signed", 8, 1), ("monomial", 1, 8)}),
        8,
    ),
    KindCase(
        "fused, rotary",
        lambda: FusedRotary(into_memory=False),
        (SEQUENCE,),
        frozenset({("invertible", 8, 1), ("permutation", 2, 1), ("invertible", 4, 2), ("monomial", 1, 4)}),
        64 + 32 + 4,
    ),
    KindCase(
        "written to memory",
        lambda: FusedRotary(into_memory=True),
        (SEQUENCE,),
        frozenset({("invertible", 8, 1), ("invertible", 4, 1), ("monomial", 1, 2)}),
        64 + 32 + 4,
    ),
    KindCase("gated", Gated, (X,), frozenset({("monomial", 8, 1)}), 8),
    KindCase("block", lambda: Block(affine=False), (SEQUENCE,), HEADS | {("centred", 8, 1)}, 64 + 12 + 21),
    KindCase(
        "block with weights",
        lambda: Block(affine=True),
        (SEQUENCE,),
        HEADS | {("permutation", 8, 1), ("monomial", 1, 8)},
        64 + 12 + 16,
    ),
)


def change(model: nn.Module, inputs: tuple[Tensor, ...], spec: PermutationSpec, element: Permutations) -> float:
    """|f(πθ) - π f(θ)| relative to |f(θ)|."""
    moved = spec.apply(element, model.state_dict())
    with torch.no_grad():
        before: Any = spec.apply_outputs(element, model(*inputs))
        after = torch.func.functional_call(model, moved, inputs)
    return float((before - after).abs().max() / before.abs().max())
