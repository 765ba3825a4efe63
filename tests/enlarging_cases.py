"""Pairs of models of which the first has more units, heads or layers than the second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)


class Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, hidden), nn.Linear(hidden, 12)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = x + self.down(self.up(self.norm(x)).relu())
        return h


class Deep(nn.Module):
    def __init__(self, depth: int, hidden: int, width: int = 12) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(8, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList([Block(hidden) for _ in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.write(x)
        return out


class Conv(nn.Module):
    def __init__(self, *widths: int) -> None:
        super().__init__()
        one, two = widths
        self.a, self.n, self.b = nn.Conv2d(3, one, 3), nn.BatchNorm2d(one), nn.Conv2d(one, two, 3)
        self.c = nn.Linear(two, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c(self.b(self.n(self.a(x)).relu()).relu().mean((2, 3)))
        return out


class Attend(nn.Module):
    """Two heads of queries and keys with `dims`, values with `wide`; scores by dims, unless `raw`."""

    def __init__(self, dims: int, wide: int, raw: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 2 * dims), nn.Linear(8, 2 * dims), nn.Linear(8, 2 * wide)
        self.o, self.raw = nn.Linear(2 * wide, 8), raw

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        h = nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0 if self.raw else None)
        out: Tensor = self.o(h.transpose(1, 2).flatten(2))
        return out


LLAMA = {
    "vocab_size": 40, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 48, "num_hidden_layers": 3, "use_cache": False,
}  # fmt: skip
GPT = {"vocab_size": 40, "n_embd": 32, "n_head": 4, "n_positions": 20, "n_layer": 3, "n_inner": 48, "use_cache": False}
BERT = {"vocab_size": 40, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 2}

VIT = {
    "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 3, "image_size": 16,
    "patch_size": 8, "num_labels": 5,
}  # fmt: skip


def generic(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def llama(**more: Any) -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**{**LLAMA, **more}))  # type: ignore[arg-type]


def gpt2(**more: Any) -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(**{**GPT, **more}))


def untied(**more: Any) -> nn.Module:
    return gpt2(tie_word_embeddings=False, **more)


def vit(**more: Any) -> nn.Module:
    return ViTForImageClassification(ViTConfig(**{**VIT, **more}))  # type: ignore[arg-type]


def bert(**more: Any) -> nn.Module:
    return BertModel(BertConfig(**{**BERT, **more}))  # type: ignore[arg-type]


VECTORS, IMAGES, SERIES = torch.randn(4, 8), torch.randn(2, 3, 9, 9), torch.randn(2, 5, 8)
TOKENS = {"input_ids": torch.arange(14).reshape(2, 7)}
PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[Any, ...], dict[str, Any]]] = {
    "width": (lambda: Deep(2, 20), lambda: Deep(2, 13), (VECTORS,), {}),
    "depth": (lambda: Deep(4, 20), lambda: Deep(2, 20), (VECTORS,), {}),
    "both": (lambda: Deep(4, 20), lambda: Deep(2, 13), (VECTORS,), {}),
    "channels": (lambda: Conv(10, 9), lambda: Conv(7, 5), (IMAGES,), {}),
    "gated": (llama, lambda: llama(intermediate_size=30), (), TOKENS),
    "heads": (llama, lambda: llama(num_attention_heads=2, num_key_value_heads=1), (), TOKENS),
    "layers": (llama, lambda: llama(num_hidden_layers=2), (), TOKENS),
    "fused heads": (gpt2, lambda: gpt2(n_inner=30, n_layer=2), (), TOKENS),
    "stream": (llama, lambda: llama(hidden_size=16), (), TOKENS),
    "stream with means, and heads": (
        lambda: gpt2(tie_word_embeddings=False),
        lambda: gpt2(tie_word_embeddings=False, n_embd=16, n_head=2),
        (),
        TOKENS,
    ),
    "stream, heads, units, layers": (
        llama,
        lambda: llama(
            hidden_size=16, intermediate_size=30, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
        ),
        (),
        TOKENS,
    ),
    "dims of heads": (lambda: Attend(12, 9), lambda: Attend(6, 4), (SERIES,), {}),
    "dims of heads, raw scores": (lambda: Attend(12, 9, True), lambda: Attend(6, 4, True), (SERIES,), {}),
    "images": (vit, lambda: vit(intermediate_size=30, num_hidden_layers=2), (torch.randn(2, 3, 16, 16),), {}),
    "post-norm, width": (bert, lambda: bert(intermediate_size=30), (), TOKENS),
}


def pair(name: str) -> tuple[nn.Module, nn.Module, tuple[Any, ...], dict[str, Any]]:
    torch.manual_seed(0)
    make_a, make_b, args, kwargs = PAIRS[name]
    return generic(make_a(), 1), generic(make_b(), 2), args, kwargs


def outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        found = model(*args, **kwargs)
    out: Tensor = found if isinstance(found, Tensor) else found[0]
    return out
