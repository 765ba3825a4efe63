"""Small models for tests of matching: a model, its inputs, and a planted copy with its units in another order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, HubertConfig, HubertModel, LlamaConfig, LlamaForCausalLM

import permgraph as pg


@dataclass(frozen=True)
class Planted:
    """A, B = the planted element applied to A, the specification, and batches of calibration data."""

    a: nn.Module
    b: nn.Module
    spec: pg.PermutationSpec
    element: pg.Permutations
    batches: list[Any]

    def recovered(self, permutations: pg.Permutations) -> list[str]:
        """Groups whose permutation is exactly the inverse of the planted one."""
        inverse = self.spec.invert(self.element)
        return [name for name in inverse if (inverse[name] == permutations[name]).all()]


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode, its parameters away from 0 and 1 so that every unit is told apart."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def plant(model: nn.Module, batches: list[Any], outputs: str = "fixed", seed: int = 1) -> Planted:
    """Plant a random element of the group in a copy."""
    first = batches[0]
    args, kwargs = ((), first) if isinstance(first, dict) else ((first,), {})
    spec = pg.derive(model, args, kwargs, outputs=outputs)
    element = spec.sample(seed)
    b = copy.deepcopy(model)
    b.load_state_dict(spec.apply(element, model.state_dict()))
    return Planted(model, b, spec, element, batches)


def mlp(width: int = 12) -> nn.Module:
    """Two hidden layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3)).eval()


def loaded() -> tuple[nn.Module, Tensor]:
    """The same for `pg.load`."""
    return mlp(), vectors()[0]


def vectors(count: int = 4) -> list[Tensor]:
    """Batches for `mlp`."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(64, 5, generator=generator) for _ in range(count)]


HUBERT = HubertConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    conv_dim=(16,) * 7,
    num_conv_pos_embedding_groups=4,
    num_conv_pos_embeddings=16,
)


def hubert() -> Planted:
    """A tiny HuBERT with everything moved, its residual stream included."""
    torch.manual_seed(0)
    return plant(spread(HubertModel(HUBERT)), [{"input_values": torch.randn(2, 4000)} for _ in range(4)], "free")


def _tokens(model: Callable[[], nn.Module]) -> Planted:
    torch.manual_seed(0)
    return plant(spread(model()), [{"input_ids": torch.randint(0, 50, (4, 30))} for _ in range(4)])


def llama() -> Planted:
    """Grouped-query attention with rotary embeddings."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 50}
    return _tokens(lambda: LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)))


def gpt2() -> Planted:
    """A fused projection and a tied head."""
    special = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=32, **special)
    return _tokens(lambda: GPT2LMHeadModel(config))


PLANTED: dict[str, Callable[[], Planted]] = {
    "mlp": lambda: plant(mlp(), vectors()),
    "hubert": hubert,
    "llama": llama,
    "gpt2": gpt2,
}
