"""Networks with attention, small, each with one thing in it that a symmetry group has to respect."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_nets import Residual, Scale


class Attention(nn.Module):
    """Self-attention with every variation of how it is projected, rotated, normed and biased.

    `layout` is how the projections are stored: "separate" linears, or one fused one as "thirds", "3Hk", "H3k", "k3H",
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
