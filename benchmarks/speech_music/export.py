"""Write an encoder as a Hugging Face folder: speech as HuBERT spells it, music as MERT does.

The two folders differ in names only: `model_type`, MERT's extra config fields, and the weight norm
of the positional convolution (`parametrizations.weight.original0/1` against `weight_g`/`weight_v`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import HubertConfig, HubertModel, PreTrainedConfig

ASSETS = Path(__file__).resolve().parents[2] / "permgraph" / "demo" / "assets"

PREPROCESSOR = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}
MERT_FIELDS = {
    "model_type": "mert_model",
    "architectures": ["MERTModel"],
    "attention_relax": -1.0,
    "deepnorm": False,
    "feat_proj_layer_norm": True,
    "feature_extractor_cqt": False,
}
POSITIONAL = "encoder.pos_conv_embed.conv."
MERT_KEYS = {
    POSITIONAL + "parametrizations.weight.original0": POSITIONAL + "weight_g",
    POSITIONAL + "parametrizations.weight.original1": POSITIONAL + "weight_v",
}


SIZES = {
    "small": {"hidden_size": 144, "num_hidden_layers": 4, "conv": 80},
    "medium": {"hidden_size": 256, "num_hidden_layers": 6, "conv": 128},
}
"""Widths: 1.28 M and 5.9 M parameters; feed-forward four times the hidden size, 4 heads."""


def encoder_config(size: str = "small", pre_norm: bool = False) -> HubertConfig:
    """HuBERT base made narrow: 7 convolutions, post-norm layers, 4 heads.

    Kernels, strides, GELU, the group norm of the first convolution, the positional convolution of
    128 taps in 16 groups and the post-norm layers are the base model's. Dropout is light: the model
    is small.

    Args:
        size: One of SIZES.
        pre_norm: Norms in front of attention and feed-forward, as HuBERT large and MERT 330M have
            them; the convolutions stay as they are, so the number of parameters does too.
    """
    fields = SIZES[size]
    return HubertConfig(
        hidden_size=fields["hidden_size"],
        num_hidden_layers=fields["num_hidden_layers"],
        num_attention_heads=4,
        intermediate_size=4 * fields["hidden_size"],
        conv_dim=(fields["conv"],) * 7,
        hidden_dropout=0.05,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        mask_feature_prob=0.0,
        do_stable_layer_norm=pre_norm,
    )


def config_fields(domain: str, config: HubertConfig) -> dict[str, Any]:
    """`config.json` of `domain` ("speech" or "music")."""
    generic = PreTrainedConfig().to_dict().keys()
    fields = {key: value for key, value in config.to_dict().items() if key not in generic}
    fields |= {"architectures": ["HubertModel"], "model_type": "hubert"}
    if domain == "music":
        fields |= MERT_FIELDS
    return dict(sorted(fields.items()))


def stored_weights(domain: str, model: HubertModel) -> dict[str, Tensor]:
    """The state dict of `model` in fp32, under the keys that `domain`'s files use."""
    renamed = MERT_KEYS if domain == "music" else {}
    return {renamed.get(key, key): value.detach().float().contiguous() for key, value in model.state_dict().items()}


def write_folder(domain: str, model: HubertModel, folder: Path | None = None) -> Path:
    """Write config.json, model.safetensors and preprocessor_config.json; return the folder."""
    folder = folder or ASSETS / domain
    folder.mkdir(parents=True, exist_ok=True)
    for name, fields in (
        ("config.json", config_fields(domain, model.config)),
        ("preprocessor_config.json", PREPROCESSOR),
    ):
        (folder / name).write_text(json.dumps(fields, indent=2) + "\n")
    partial = folder / "model.safetensors.partial"
    save_file(stored_weights(domain, model), partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "model.safetensors")
    return folder
