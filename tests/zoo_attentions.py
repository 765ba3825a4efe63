"""The rows of `zoo` with attention: layouts, grouped queries, rotary embeddings, biases, memories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import zoo_attention_nets as attention_nets
import zoo_nets as nets
from torch import nn
from zoo_build import SEQUENCE, chain, conv, do, head, images, linear, net, vectors
from zoo_rows import Case, L, Row


def attention(**options: Any) -> Callable[[], Case]:
    """One attention layer between an embedding and a head, so that its residual stream is free: + L(24)."""
    layers = (
        lambda: nn.Linear(3, 24),
        lambda: nets.Residual(attention_nets.Attention(**options)),
        lambda: nn.Linear(24, 2),
    )
    return net(chain(*layers), SEQUENCE)


D, H, K = L(24), L(4), L(6)
HEADS = H + 4 * K + 4 * K  # Sym(H), and Sym(k) for QK and for VO of each head

ATTENTIONS = (
    *(
        Row(f"attention, {layout}", attention(layout=layout), D + HEADS)
        for layout in ("separate", "thirds", "3Hk", "H3k", "k3H")
    ),
    Row("attention, einsum", attention(by_einsum=True), D + HEADS),
    *(
        Row(f"grouped queries, {layout}", attention(kv_heads=2, layout=layout), D + L(2) + 2 * L(2) + 4 * K)
        for layout in ("separate", "slices", "Krk")
    ),
    Row("multi-query", attention(kv_heads=1), D + H + 2 * K),
    Row("rotary, half", attention(rotary="half"), D + H + 4 * K),
    Row("rotary, pairs", attention(rotary="pairs"), D + H + 4 * K),
    Row("rotary, partial", attention(rotary="half", rotated=2), D + H + 4 * L(4) + 4 * K),
    Row("rotary, grouped queries", attention(rotary="half", kv_heads=2), D + L(2) + 2 * L(2) + 2 * K),
    Row(
        "rotary, half, one view",
        attention(rotary="half", layout="3Hk"),
        D + H + 4 * K,
    ),
    Row("rotary, pairs, one view", attention(rotary="pairs", layout="3Hk"), D + H + 4 * K),
    Row(
        "dtype of another tensor",
        vectors(linear(5, 8), do(lambda x: x[:, :4].type_as(x[:, 4:]) + x[:, 4:].tanh()), linear(4, 3)),
        L(4),
    ),
    Row(
        "mean beside maximum",
        images(conv(3, 8, 3), lambda: nets.Statistics(1, nn.Conv2d(2, 1, 3, padding=1)), head(8)),
        L(8),
    ),
    Row(
        "constants side by side",
        vectors(linear(5, 6), do(lambda x: x + torch.cat([torch.ones(4), torch.zeros(2)])), linear(6, 3)),
        L(4) + L(2),
    ),
    Row(
        "a border around a constant",
        vectors(linear(5, 6), do(lambda x: x + nn.functional.pad(torch.ones(4), (0, 2))), linear(6, 3)),
        L(4) + L(2),
    ),
    Row("a constant that is the same everywhere", vectors(linear(5, 8), lambda: nets.Shifted(8), linear(8, 3)), L(8)),
    Row("QK-norm", attention(qk_norm=True), D + H + K + 4 * K),
    Row("ALiBi", attention(bias="alibi"), D + 8 * K),
    Row("position bias table", attention(bias="table"), D + HEADS),
    Row("shared position bias table", net(attention_nets.SharedBias, SEQUENCE), D + H + 16 * K),
    Row("nn.MultiheadAttention", net(lambda: SelfAttention(24, 4), (2, 5, 24)), HEADS),
    Row(
        "nn.TransformerEncoderLayer",
        net(
            chain(linear(3, 24), lambda: nn.TransformerEncoderLayer(24, 4, 20, batch_first=True), linear(24, 2)),
            SEQUENCE,
        ),
        D + HEADS + L(20),
    ),
    Row(
        "nn.Transformer, causal",
        net(attention_nets.EncoderDecoder, SEQUENCE),
        L(16) + 3 * (L(4) + 8 * L(4)) + 2 * L(20),
        slow=True,
    ),
    Row(
        "heads as modules",
        net(chain(linear(3, 8), attention_nets.HeadModules, linear(24, 2)), SEQUENCE),
        L(8) + 3 * (L(8) + 2 * L(4)),
    ),
    Row("tokens", net(attention_nets.Tokens, (1, 2, 8, 8)), D + HEADS),
    Row("windows", net(attention_nets.Windows, (1, 4, 4, 3)), D + HEADS + L(7)),
)


class SelfAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention of a sequence with itself."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__(d, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x, x, x, need_weights=False)[0]
