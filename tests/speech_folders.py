"""Tiny speech encoders in folders, with the config fields that published HuBERTs and MERTs have."""

import json
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
# What the configs published for HuBERT and MERT hold beside the sizes.
HUBERT_FIELDS: dict[str, Any] = {
    "model_type": "hubert",
    "architectures": ["HubertModel"],
    "feat_extract_dropout": 0.0,
    "gradient_checkpointing": False,
    "hidden_dropout_prob": 0.1,
    "mask_channel_selection": "static",
    "num_feat_extract_layers": 7,
    "tokenizer_class": "Wav2Vec2CTCTokenizer",
    "torch_dtype": "float32",
    "transformers_version": "4.10.0.dev0",
}
MERT_FIELDS: dict[str, Any] = {
    "model_type": "mert_model",
    "architectures": ["MERTModel"],
    "auto_map": {"AutoConfig": "configuration_MERT.MERTConfig", "AutoModel": "modeling_MERT.MERTModel"},
    "attention_relax": -1.0,
    "deepnorm": False,
    "feat_proj_layer_norm": True,
    "feature_extractor_cqt": False,
    "feature_extractor_cqt_bins": 336,
    "sample_rate": 16000,
    "torch_dtype": "float16",
}


def tiny(seed=0, kind=HubertModel, **changes):
    torch.manual_seed(seed)
    config = Wav2Vec2Config if kind is Wav2Vec2Model else HubertConfig
    return kind(config(**TINY | changes)).eval()


def old_weight_norm(state):
    ends = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = dict(state)
    for name in state:
        for new, old in ends.items():
            if name.endswith(new):
                renamed[name.removesuffix(new) + old] = renamed.pop(name)
    assert renamed.keys() != state.keys()
    return renamed


def write_folder(folder, state, fields, suffix=".safetensors"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TINY | fields))
    if suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    else:
        torch.save(dict(state), folder / "pytorch_model.bin")
    return folder


@torch.no_grad()
def output(model):
    return model(torch.linspace(-1, 1, 4000).sin()[None]).last_hidden_state
