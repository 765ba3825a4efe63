"""Small models that are compared, and what makes a relative of one."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import nn
from transformers import BertConfig, BertModel


@cache
def bert(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertModel(BertConfig(vocab_size=50, max_position_embeddings=32, **sizes)).eval()


IDS = {"input_ids": torch.arange(12).reshape(2, 6)}


def disturbed(model: nn.Module, share: float) -> nn.Module:
    """Noise of this share of the size of each weight tensor."""
    found = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.is_floating_point():
                size = share * parameter.norm() / max(parameter.numel(), 1) ** 0.5
                parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return found
