"""Tiny models whose parameters are few enough for a Jacobian, for the dimension of all their continuous symmetries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

D, HEADS = 4, 2


class Rms(nn.Module):
    """An RMS norm with a weight of ones, as `fold` leaves it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (D,), self.weight, 1e-6)


class Attention(nn.Module):
    """Queries, keys and values of `HEADS` heads; fewer heads of keys and values with `groups`; rotary positions."""

    def __init__(self, *, bias: str = "", groups: int = HEADS, size: int = 2, rotary: bool = False) -> None:
        super().__init__()
        self.size, self.rotary = size, rotary
        self.q = nn.Linear(D, HEADS * size, bias="q" in bias)
        self.k, self.v = (nn.Linear(D, groups * size, bias=name in bias) for name in "kv")
        self.o = nn.Linear(HEADS * size, D, bias="o" in bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.rotary:
            q, k = turned(q), turned(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] != HEADS)
        return self.o(mixed.transpose(1, 2).flatten(2))


def turned(x: Tensor) -> Tensor:
    """Rotary positions: pairs of the two halves of each head turn by an angle that grows with the position."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] / 2.0 ** torch.arange(half)
    cos, sin = (f(angle).repeat(1, 2).to(x) for f in (torch.cos, torch.sin))
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class SwiGlu(nn.Module):
    """silu(gate) * up, then down."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(D, 3), nn.Linear(D, 3), nn.Linear(3, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Blocks(nn.Module):
    """A residual stream: each part reads it through a norm of its own and adds to it; a last norm before the head."""

    def __init__(self, norm: Callable[[], nn.Module], *parts: nn.Module, bias: bool = True) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(5, D, bias=bias), nn.Linear(D, 3, bias=bias)
        self.parts = nn.ModuleList(parts)
        self.norms = nn.ModuleList(norm() for _ in (*parts, None))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inward(x)
        for norm, part in zip(self.norms, self.parts, strict=False):
            x = x + part(norm(x))
        return self.outward(self.norms[-1](x))


class Tied(nn.Module):
    """One matrix embeds and reads out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.inner = nn.Parameter(torch.randn(6, D)), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        h = x @ self.weight
        return (h + torch.tanh(self.inner(h))) @ self.weight.T


class Embedded(nn.Module):
    """Tokens and positions are added up; what is the same for all tokens may go over to the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(7, D), nn.Embedding(4, D)
        self.read = nn.Sequential(nn.Tanh(), nn.Linear(D, 3))

    def forward(self, x: Tensor) -> Tensor:
        ids = (x[..., 0].detach() * 1e3).long() % 7
        return self.read(self.tokens(ids) + self.positions.weight)


class WrittenOut(nn.Module):
    """Attention in single operations, with one linear layer for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.qkv, self.o = nn.Linear(5, D), nn.Linear(D, 3 * HEADS * 2), nn.Linear(HEADS * 2, D)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.inward(x))
        q, k, v = (part.unflatten(-1, (HEADS, 2)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        weights = (q @ k.transpose(-1, -2) / 2**0.5).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Convolutions(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Conv1d(2, 4, 3, padding=1), nn.Sequential(*between), nn.Conv1d(4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


class Recurrent(nn.Module):
    """A recurrent layer and a head."""

    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer, self.head = kind(3, 3, batch_first=True, **options), nn.Linear(options.get("proj_size", 3), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])


class Compared(nn.Module):
    """The cosine of two projections."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.cosine_similarity(self.a(x[..., :4]), self.b(x[..., 4:]), -1)[..., None]


class Gpt(nn.Module):
    """Tokens, positions, a block and a head without a bias."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(7, D), nn.Embedding(4, D)
        self.block = Blocks(LAYER_NORM, Attention(bias="qkvo"), SwiGlu(), bias=False)
        self.block.inward, self.block.outward = nn.Identity(), nn.Linear(D, 7, bias=False)
        if tied:
            self.block.outward.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        ids = (x[..., 0].detach() * 1e3).long() % 7
        return self.block(self.tokens(ids) + self.positions.weight)


@dataclass(frozen=True)
class DeficitCase:
    """A model, the shape of one input, and the dimension of what it allows that nothing derives."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    missed: int = 0
    why: str = ""


def mlp(*between: nn.Module, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3, bias=bias), *between, nn.Linear(3, 4, bias=bias))


def attending(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(5, D), nn.Tanh(), Attention(**options), nn.Tanh(), nn.Linear(D, 2))


def block(*parts: nn.Module, norm: Callable[[], nn.Module], bias: bool) -> nn.Module:
    return Blocks(norm, *parts, bias=bias)


LAYER_NORM = partial(nn.LayerNorm, D)
VECTOR, SEQUENCE = (4,), (4, 5)
"""Shapes of one input."""
BENT = "the last norm's bias, taken back by a weight that turns the constant vector of its result"
PLANES = "rotations of the planes of a rotary embedding, one for each frequency of each head of keys"

DEFICIT_CASES = (
    DeficitCase("relu", lambda: mlp(nn.ReLU()), VECTOR),
    DeficitCase("tanh", lambda: mlp(nn.Tanh()), VECTOR),
    DeficitCase("no activation", lambda: mlp(), VECTOR),
    DeficitCase("no activation, no bias", lambda: mlp(bias=False), VECTOR),
    DeficitCase("three layers", lambda: mlp(nn.Linear(3, 3)), VECTOR),
    DeficitCase("post-norm", lambda: mlp(nn.LayerNorm(3), nn.Tanh()), VECTOR),
    DeficitCase("swiglu", lambda: nn.Sequential(nn.Linear(5, D), nn.Tanh(), SwiGlu()), (5,)),
    DeficitCase("attention", lambda: attending(), SEQUENCE),
    DeficitCase("attention with biases of queries and keys", lambda: attending(bias="qk"), SEQUENCE),
    DeficitCase("attention with all biases", lambda: attending(bias="qkvo"), SEQUENCE),
    DeficitCase("attention written out", WrittenOut, SEQUENCE),
    DeficitCase("grouped queries", lambda: attending(groups=1, bias="qkv"), SEQUENCE),
    DeficitCase("rotary", lambda: attending(rotary=True, size=4), SEQUENCE, 4, PLANES),
    DeficitCase("rotary, grouped", lambda: attending(rotary=True, size=4, groups=1), SEQUENCE, 2, PLANES),
    DeficitCase("rms norm block", lambda: block(Attention(), SwiGlu(), norm=Rms, bias=False), SEQUENCE),
    DeficitCase(
        "layer norm block", lambda: block(Attention(bias="qkvo"), SwiGlu(), norm=LAYER_NORM, bias=True), SEQUENCE
    ),
    DeficitCase("pre-norm", lambda: block(SwiGlu(), norm=LAYER_NORM, bias=True), (5,)),
    DeficitCase(
        "log probabilities", lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.LogSoftmax(-1)), (5,)
    ),
    DeficitCase("convolutions", lambda: Convolutions(nn.ReLU()), (2, 8)),
    DeficitCase("group norm", lambda: Convolutions(nn.GroupNorm(2, 4), nn.Tanh()), (2, 8)),
    DeficitCase("rnn", lambda: Recurrent(nn.RNN), (4, 3)),
    DeficitCase("rnn with relu", lambda: Recurrent(nn.RNN, nonlinearity="relu"), (4, 3)),
    DeficitCase("lstm", lambda: Recurrent(nn.LSTM), (4, 3)),
    DeficitCase("lstm with projection", lambda: Recurrent(nn.LSTM, proj_size=2), (4, 3)),
    DeficitCase("gru", lambda: Recurrent(nn.GRU), (4, 3)),
    DeficitCase("cosine", Compared, (8,), 2, "one scale for all units of each side"),
    DeficitCase("gpt", lambda: Gpt(tied=False), (4, 1), 4, BENT),
    DeficitCase("gpt, tied", lambda: Gpt(tied=True), (4, 1), 4, BENT),
    DeficitCase("tied", Tied, (6,)),
    DeficitCase("embedded", Embedded, (4, 1)),
)


def generic(case: DeficitCase) -> tuple[nn.Module, Tensor]:
    """The model in float64 with random parameters, norm weights left at 1, and inputs enough for its Jacobian."""
    torch.manual_seed(0)
    model = case.build().double().eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 or name.endswith("bias"):
            parameter.data = 0.7 * torch.randn_like(parameter)
    return model, torch.randn(100, *case.shape, dtype=torch.float64)


def deficit(model: nn.Module, inputs: Tensor, held: Iterable[str]) -> int:
    """The rank deficit of the Jacobian of all outputs with respect to all parameters but those held."""
    fixed = {name: p.detach() for name, p in model.named_parameters() if name in set(held)}
    free = {name: p.detach() for name, p in model.named_parameters() if name not in fixed}

    def outputs(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(model, {**fixed, **parameters}, (x[None],))
        return result.flatten()

    with sdpa_kernel(SDPBackend.MATH):  # the others have no rule for many rows at once
        parts = [torch.func.jacrev(outputs)(free, x) for x in inputs]
    jacobian = torch.cat([torch.cat([part.flatten(1) for part in one.values()], -1) for one in parts])
    values = torch.linalg.svdvals(jacobian)
    return jacobian.shape[1] - int((values > 1e-9 * values[0]).sum())
