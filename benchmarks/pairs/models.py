"""The small architectures: an MLP, a narrow ResNet with BatchNorm, a BERT, a ViT, a GPT-2 and a Llama; some wide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from benchmarks.pairs.data import CHARACTERS, CONTEXT, UNMASKED, Split, brown, fashion, masked_brown


class Block(nn.Module):
    """Two 3 × 3 convolutions with BatchNorm, and a shortcut that a 1 × 1 convolution widens."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.short: nn.Module = nn.Identity()
        if stride > 1 or inner != outer:
            self.short = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.short(x))


def resnet(widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """One block a stage, the stem with stride 2."""
    layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    for number, outer in enumerate(widths):
        layers.append(Block(widths[max(number - 1, 0)], outer, 1 + (number > 0)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def mlp(width: int = 256) -> nn.Module:
    """Three hidden layers."""
    hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


class Logits(nn.Module):
    """A transformers model that returns its logits alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).logits


def vit(width: int = 64) -> nn.Module:
    """Four layers, patches of 7 × 7."""
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=4, num_attention_heads=4, intermediate_size=2 * width, image_size=28,
        patch_size=7,
        num_channels=1, num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return Logits(ViTForImageClassification(config))


def gpt2(width: int = 64) -> nn.Module:
    """Two layers over characters, the embedding tied to the head."""
    config = GPT2Config(
        n_embd=width, n_layer=2, n_head=4, vocab_size=len(CHARACTERS), n_positions=CONTEXT, use_cache=False,
        embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return Logits(GPT2LMHeadModel(config))


def llama() -> nn.Module:
    """Two layers of 64 over characters: RMS norms, rotary positions, two heads to one of keys, a gate."""
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=176,
        vocab_size=len(CHARACTERS), max_position_embeddings=CONTEXT, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return Logits(LlamaForCausalLM(config))


def bert() -> nn.Module:
    """Two layers of 64 over characters, some of them masked: norms after the sums, the embedding tied to the head."""
    config = BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256, pad_token_id=None,
        vocab_size=len(CHARACTERS) + 1, max_position_embeddings=CONTEXT, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=0.125,
    )  # fmt: skip
    return Logits(BertForMaskedLM(config))


def class_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of one label a sample."""
    return nn.functional.cross_entropy(logits, target)


def next_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of each next character."""
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), target[:, 1:].flatten())


def masked_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of each masked character."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=UNMASKED)


def class_hits(logits: Tensor, target: Tensor) -> float:
    """The share of the samples that are classified right."""
    return (logits.argmax(-1) == target).float().mean().item()


def next_hits(logits: Tensor, target: Tensor) -> float:
    """The share of the next characters that are guessed right."""
    return (logits[:, :-1].argmax(-1) == target[:, 1:]).float().mean().item()


def masked_hits(logits: Tensor, target: Tensor) -> float:
    """The share of the masked characters that are guessed right."""
    return (logits.argmax(-1) == target)[target != UNMASKED].float().mean().item()


@dataclass(frozen=True)
class Recipe:
    """How an architecture is built, trained and judged."""

    build: Callable[[], nn.Module]
    data: Callable[[], Split]
    epochs: float
    batch: int
    rate: float
    loss: Callable[[Tensor, Tensor], Tensor] = class_loss
    hits: Callable[[Tensor, Tensor], float] = class_hits


RECIPES = {
    "mlp": Recipe(mlp, fashion, 8, 128, 1e-3),
    "resnet": Recipe(resnet, fashion, 4, 128, 3e-3),
    "vit": Recipe(vit, fashion, 5, 128, 2e-3),
    "gpt2": Recipe(gpt2, brown, 2, 64, 3e-3, next_loss, next_hits),
    "llama": Recipe(llama, brown, 2, 64, 3e-3, next_loss, next_hits),
    "bert": Recipe(bert, masked_brown, 6, 64, 1.5e-3, masked_loss, masked_hits),
    "vit-128": Recipe(partial(vit, 128), fashion, 2, 128, 2e-3),
    "vit-256": Recipe(partial(vit, 256), fashion, 1.5, 128, 1e-3),
    "gpt2-64": Recipe(gpt2, brown, 0.6, 64, 3e-3, next_loss, next_hits),
    "gpt2-128": Recipe(partial(gpt2, 128), brown, 0.6, 64, 3e-3, next_loss, next_hits),
    "gpt2-256": Recipe(partial(gpt2, 256), brown, 0.3, 64, 2e-3, next_loss, next_hits),
}
SEEDS = (0, 1, 2)
