"""Which symmetry the residual stream of an encoder has, post-norm and pre-norm.

    python -m benchmarks.speech_music.architectures

Derived from narrow encoders with random weights, which are enough: the group is that of the operations. A pre-norm
stream may turn only where nothing acts on its single channels; the GELU behind HuBERT's positional convolution does.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from transformers import HubertConfig, HubertModel

import permgraph as pg
from benchmarks.speech_music.features import RATE
from benchmarks.speech_music.summary import RESULT

FOUND = RESULT.with_name("speech_music_architectures.json")
VARIANTS = (
    ("post-norm: HuBERT base, MERT 95M", False, 4),
    ("pre-norm: HuBERT large, MERT 330M", True, 4),
    ("pre-norm, positional convolution of one group", True, 1),
)
"""(title, pre-norm, groups of the positional convolution)."""


def variant(pre_norm: bool, groups: int) -> HubertModel:
    """A narrow encoder of one layer with random weights and norms."""
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=groups,
        do_stable_layer_norm=pre_norm,
    )
    model = HubertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def stream(model: HubertModel) -> list[dict[str, Any]]:
    """The groups that move the residual stream as a whole: kind, size, how many."""
    example = {"input_values": torch.randn(1, RATE // 2)}
    spec = pg.derive(model, (), example, outputs="free", kinds="all")
    named = [group for group in spec.groups if group.name in ("residual", "residual.within")]
    return [{"group": g.name, "kind": g.kind, "size": g.size, "count": g.count} for g in named]


def main() -> None:
    found = [{"title": title, "stream": stream(variant(*about))} for title, *about in VARIANTS]
    FOUND.write_text(json.dumps(found, indent=1) + "\n")
    for one in found:
        print(one)


if __name__ == "__main__":
    main()
