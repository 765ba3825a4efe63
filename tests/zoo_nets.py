"""Small networks out of plain modules: one construct each, for the table in `zoo`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Apply(nn.Module):
    """A function of a tensor as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Concat(nn.Module):
    """x ++ f(x) along a dimension."""

    def __init__(self, *layers: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.inner, self.dim = nn.Sequential(*layers), dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], self.dim)


class Product(nn.Module):
    """f(x) ⊙ g(x)."""

    def __init__(self, f: nn.Module, g: nn.Module) -> None:
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) * self.g(x)


class Statistics(nn.Module):
    """Gates units by their mean and their maximum, side by side: two numbers that are never exchanged."""

    def __init__(self, dim: int, mix: nn.Module) -> None:
        super().__init__()
        self.dim, self.mix = dim, mix

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(self.dim, keepdim=True), x.amax(self.dim, keepdim=True)], self.dim)
        return x * self.mix(both).sigmoid()


class Shifted(nn.Module):
    """Adds a constant that is no part of the state dict, the same for every unit."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.full((d,), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


class Bias(nn.Module):
    """x + a bare parameter of any shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Scale(nn.Module):
    """x times a bare parameter (LayerScale)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def pooled(channels: int, classes: int = 3) -> list[nn.Module]:
    """A classifier head over averaged positions."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def basic_block(width: int, inner: int) -> nn.Module:
    """conv, BatchNorm, ReLU, conv, BatchNorm beside a skip."""
    return Residual(
        nn.Conv2d(width, inner, 3, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )


class UNet(nn.Module):
    """Down, up, and a skip by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 9, 3, stride=2, padding=1)
        self.up, self.leave = nn.ConvTranspose2d(9, 5, 2, stride=2), nn.Conv2d(11, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.enter(x))
        return self.leave(torch.cat([F.relu(self.up(F.relu(self.down(skip)))), skip], 1))


class Attention(nn.Module):
    """Self-attention with every variation of how it is projected, rotated, normed and biased.

    `layout` is how the projections lie: "separate" linears, or one fused one as "thirds", "3Hk", "H3k", "k3H",
    "slices" (unequal, for grouped queries) or "Krk" (the queries of a key-value head beside it).
    """

    def __init__(
        self,
        d: int = 24,
        heads: int = 4,
        k: int = 6,
        *,
        kv_heads: int | None = None,
        layout: str = "separate",
        rotary: str = "",
        rotated: int = 0,
        qk_norm: bool = False,
        bias: str = "",
        positions: int = 5,
        by_einsum: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.k, self.kv, self.layout = heads, k, kv_heads or heads, layout
        self.rotary, self.rotated, self.by_einsum = rotary, rotated or k, by_einsum
        q, kv = heads * k, self.kv * k
        if layout == "separate":
            self.q, self.key, self.v = nn.Linear(d, q), nn.Linear(d, kv), nn.Linear(d, kv)
        else:
            self.qkv = nn.Linear(d, q + 2 * kv)
        self.out = nn.Linear(q, d)
        self.q_norm, self.k_norm = (nn.RMSNorm(k), nn.RMSNorm(k)) if qk_norm else (nn.Identity(), nn.Identity())
        if bias == "table":
            self.bias = nn.Parameter(torch.randn(heads, positions, positions))
        elif bias == "alibi":
            slopes = 2.0 ** -torch.arange(1, heads + 1)
            distance = torch.arange(positions)[None] - torch.arange(positions)[:, None]
            self.register_buffer("bias", slopes[:, None, None] * distance, persistent=False)
        else:
            self.bias = None

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as (batch, head, position, k)."""
        b, t, _ = x.shape
        h, g, k = self.heads, self.kv, self.k
        if self.layout == "separate":
            parts = self.q(x), self.key(x), self.v(x)
        else:
            y = self.qkv(x)
            if self.layout == "thirds":
                parts = y.chunk(3, -1)
            elif self.layout == "slices":
                parts = y.split([h * k, g * k, g * k], -1)
            elif self.layout == "3Hk":
                return tuple(y.view(b, t, 3, h, k).permute(2, 0, 3, 1, 4).unbind(0))
            elif self.layout == "H3k":
                return tuple(y.view(b, t, h, 3, k)[:, :, :, i].transpose(1, 2) for i in range(3))
            elif self.layout == "k3H":
                return tuple(y.view(b, t, k, 3, h)[:, :, :, i].permute(0, 3, 1, 2) for i in range(3))
            else:
                y = y.view(b, t, g, h // g + 2, k)
                parts = y[:, :, :, :-2].flatten(2, 3), y[:, :, :, -2], y[:, :, :, -1]
        return tuple(part.reshape(b, t, -1, k).transpose(1, 2) for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        q, k = self.q_norm(q), self.k_norm(k)
        q, k = (rotate(part, self.rotary, self.rotated) for part in (q, k))
        if self.kv != self.heads:
            k, v = (part.repeat_interleave(self.heads // self.kv, 1) for part in (k, v))
        if self.by_einsum:
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(self.k)
            mixed = torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), v)
        elif self.bias is not None:
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.k) + self.bias
            mixed = scores.softmax(-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


def rotate(x: Tensor, how: str, size: int) -> Tensor:
    """Rotary position embedding of the first `size` dims: "half" pairs i with i + size/2, "pairs" neighbours."""
    if not how:
        return x
    x, rest = x[..., :size], x[..., size:]
    angles = torch.arange(x.shape[-2])[:, None] * 100.0 ** -torch.arange(0, 1, 2 / size)
    if how == "half":
        a, b = x.chunk(2, -1)
        cos, sin = (torch.cat([f(angles), f(angles)], -1) for f in (torch.cos, torch.sin))
        return torch.cat([x * cos + torch.cat([-b, a], -1) * sin, rest], -1)
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    return torch.cat([turned, rest], -1)


class SharedBias(nn.Module):
    """Two attention layers with one relative-position table."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 24)
        self.layers = nn.ModuleList(Attention(bias="table") for _ in range(2))
        self.layers[1].bias = self.layers[0].bias
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


class FusedGate(nn.Module):
    """A gated MLP whose gate and value come from one linear: as halves, by `glu`, or as every other unit."""

    def __init__(self, how: str, d: int = 6, f: int = 10) -> None:
        super().__init__()
        self.how, self.up, self.down = how, nn.Linear(d, 2 * f), nn.Linear(f, d)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        if self.how == "glu":
            return self.down(F.glu(y, -1))
        gate, value = y.chunk(2, -1) if self.how == "chunk" else (y[..., ::2], y[..., 1::2])
        return self.down(F.silu(gate) * value)


class TiedHead(nn.Module):
    """An embedding that is the head as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.inner = Residual(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.inner(self.embed(ids)))


class Tokens(nn.Module):
    """Patches, a class token, a position table, a block with LayerScale."""

    def __init__(self, d: int = 24) -> None:
        super().__init__()
        self.patch = nn.Conv2d(2, d, 4, stride=4)
        self.cls, self.position = nn.Parameter(torch.randn(1, 1, d)), nn.Parameter(torch.randn(1, 5, d))
        self.attend = Residual(nn.LayerNorm(d), Attention(d), Scale(d))
        self.head = nn.Linear(d, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.attend(x)[:, 0])


class Windows(nn.Module):
    """Attention in windows of 2 x 2, cyclically shifted, then patch merging."""

    def __init__(self, d: int = 24) -> None:
        super().__init__()
        self.enter, self.attend, self.merge = nn.Linear(3, d), Attention(d), nn.Linear(4 * d, 7)
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.enter(x), (-1, -1), (1, 2))
        b, h, w, d = x.shape
        y = x.view(b, h // 2, 2, w // 2, 2, d).transpose(2, 3).reshape(-1, 4, d)
        y = self.attend(y).view(b, h // 2, w // 2, 2, 2, d).transpose(2, 3).reshape(b, h, w, d)
        x = x + y
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.head(F.gelu(self.merge(torch.cat(parts, -1))).mean((1, 2)))


class Mixer(nn.Module):
    """An MLP over positions, an MLP over channels."""

    def __init__(self, t: int = 5, d: int = 8) -> None:
        super().__init__()
        self.enter = nn.Linear(3, d)
        self.tokens = nn.Sequential(nn.Linear(t, 6), nn.GELU(), nn.Linear(6, t))
        self.channels = nn.Sequential(nn.Linear(d, 12), nn.GELU(), nn.Linear(12, d))
        self.head = nn.Linear(d, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.channels(x)).mean(1))


class Queries(nn.Module):
    """Learned queries that read the input, averaged: their order does not matter."""

    def __init__(self, n: int = 5, d: int = 8) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(n, d))
        self.key, self.value, self.head = nn.Linear(3, d), nn.Linear(3, d), nn.Linear(d, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.queries @ self.key(x).transpose(1, 2)
        return self.head(F.gelu(scores.softmax(-1) @ self.value(x)).mean(1))


class Experts(nn.Module):
    """A soft mixture of experts in stacked tensors."""

    def __init__(self, n: int = 3, d: int = 6, f: int = 5) -> None:
        super().__init__()
        self.router = nn.Linear(d, n)
        self.up, self.down = nn.Parameter(torch.randn(n, d, f)), nn.Parameter(torch.randn(n, f, d))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bd,edf->bef", x, self.up).relu()
        return torch.einsum("bef,efd,be->bd", hidden, self.down, self.router(x).softmax(-1))


class TwoInTwoOut(nn.Module):
    """Two inputs, a dict of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 7), nn.Linear(4, 7)
        self.left, self.right = nn.Linear(7, 2), nn.Linear(7, 9)
        self.last = nn.Linear(9, 2)

    def forward(self, x: Tensor, *, y: Tensor) -> dict[str, Tensor]:
        joined = torch.tanh(self.a(x) * self.b(y))
        return {"left": self.left(joined), "right": self.last(torch.tanh(self.right(joined)))}


class Joined(nn.Module):
    """Two branches into nn.Bilinear."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(3, 7)
        self.join, self.head = nn.Bilinear(6, 7, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.join(torch.tanh(self.a(x)), torch.tanh(self.b(x)))))


class Recurrent(nn.Module):
    """A recurrent net over positions, between linears."""

    def __init__(self, kind: type[nn.RNNBase], hidden: int = 6, **options) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 5)
        self.body = kind(5, hidden, batch_first=True, **options)
        self.head = nn.Linear(hidden * (2 if options.get("bidirectional") else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.enter(x))[0])


class PositionalConvolution(nn.Module):
    """x + a weight-normed grouped convolution of x."""

    def __init__(self, d: int, groups: int) -> None:
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv1d(d, d, 3, padding=1, groups=groups), dim=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.conv(x.transpose(1, 2)).transpose(1, 2))


class Gates(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class HeadModules(nn.Module):
    """Each head a module of its own, concatenated: its dims move, the heads are different parameters."""

    def __init__(self, heads: int = 3, d: int = 8, k: int = 4) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Attention(d, 1, k) for _ in range(heads))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x) for head in self.heads], -1)


class EncoderDecoder(nn.Module):
    """nn.Transformer with a causal mask, whose form it looks at, between an embedding and a head."""

    def __init__(self, d: int = 16, heads: int = 4, f: int = 20) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, d), nn.Linear(d, 2)
        self.body = nn.Transformer(d, heads, 1, 1, f, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=x.dtype)
        return self.head(self.body(y, y[:, :3], tgt_mask=mask))


class Written(nn.Module):
    """Two halves written into one tensor, and an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 3), nn.Linear(3, 5), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], 8)
        y[:, :3] = self.a(x)
        y[:, 3:].copy_(self.b(x))
        y.tanh_()
        return self.head(y * y.sum(1, keepdim=True))


class Rolled(nn.Module):
    """One linear called again and again."""

    def __init__(self, d: int = 9) -> None:
        super().__init__()
        self.enter, self.step, self.head = nn.Linear(3, d), nn.Linear(d, d), nn.Linear(d, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for _ in range(2):
            x = torch.tanh(self.step(x))
        return self.head(x)


class StateSpace(nn.Module):
    """A diagonal state-space recurrence with input-dependent steps (Mamba), unrolled over a short sequence."""

    def __init__(self, d: int = 4, inner: int = 6, n: int = 3) -> None:
        super().__init__()
        self.up, self.dt = nn.Linear(d, 2 * inner), nn.Linear(inner, inner)
        self.to_b, self.to_c = nn.Linear(inner, n), nn.Linear(inner, n)
        self.log_a, self.skip = nn.Parameter(torch.randn(inner, n)), nn.Parameter(torch.randn(inner))
        self.conv = nn.Conv1d(inner, inner, 2, padding=1, groups=inner)
        self.down = nn.Linear(inner, d)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.up(x).chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, b, c = F.softplus(self.dt(x)), self.to_b(x), self.to_c(x)
        decay = torch.exp(dt[..., None] * -torch.exp(self.log_a))
        drive = dt[..., None] * b[:, :, None] * x[..., None]
        state, rows = torch.zeros_like(drive[:, 0]), []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + drive[:, t]
            rows.append((state * c[:, t, None]).sum(-1))
        return self.down((torch.stack(rows, 1) + self.skip * x) * F.silu(gate))
