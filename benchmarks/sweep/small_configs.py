"""A configuration of any class of transformers made small: its numbers, in all its parts, and its backbone.

A configuration is the default one of its class with the numbers that set its size made small (`SMALL`), in all its
parts; a field is left as it is where the class refuses the small one. Tried in turn: fewer of the fields (`LEVELS`),
and heads of the usual 64 to 128 units (`WIDE`). What else a family needs is in `families.FIELDS`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import transformers as hf
from families import FIELDS

WIDTH, HEADS, LAYERS, WORDS, LENGTH = 32, 4, 2, 99, 12
SMALL = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "embedding_size", "hidden_dim"), WIDTH),
    **dict.fromkeys(("encoder_hidden_size", "decoder_hidden_size", "word_embed_proj_dim", "d_embed"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers", "num_encoder_layers", "depth"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), HEADS),
    **dict.fromkeys(("decoder_attention_heads", "linear_num_value_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "linear_num_key_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 8),
    "rotary_dim": 4,
    **dict.fromkeys(("v_head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner", "d_ff"), 64),
    **dict.fromkeys(("ffn_hidden_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "ffn_config_hidden_size", "mlp_hidden_size", "hidden_sizes_mlp"), 24),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "projection_dim", "time_step_rank"), 16),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_source_positions", "max_target_positions"), 64),
    **dict.fromkeys(("image_size",), 32),
    **dict.fromkeys(("patch_size",), 8),
    **dict.fromkeys(("vocab_size", "text_vocab_size", "decoder_vocab_size"), WORDS),
    **dict.fromkeys(("pad_token_id", "bos_token_id"), 0),
    **dict.fromkeys(("eos_token_id", "decoder_start_token_id", "sep_token_id", "cls_token_id"), 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "num_mel_bins": 16,
    "chunk_size": 4,
    "mamba_chunk_size": 4,
    "mamba_d_head": 8,
    "mamba_n_heads": 8,
    "prediction_length": 4,
    "num_queries": 5,
    "audio_token_id": WORDS - 1,
    "image_token_id": WORDS - 2,
}
WIDE = (
    SMALL
    | {name: 8 * WIDTH for name, size in SMALL.items() if size == WIDTH}
    | {name: HEADS // 2 for name, size in SMALL.items() if size == HEADS and "head" in name}
)
# Numbers although the default is none.
UNSET = frozenset(("head_dim", "vocab_size", "n_routed_experts", "num_experts_per_tok", "prediction_length"))
DEPTH = frozenset(name for name, size in SMALL.items() if (size == LAYERS and "layer" in name) or name == "depth")
TEXT = frozenset(("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"))
LEVELS = (
    frozenset(SMALL),
    frozenset(SMALL) - {"image_size", "patch_size", "head_dim", "attention_head_dim", "num_mel_bins"},
    frozenset(SMALL)
    - {"num_attention_heads", "num_heads", "num_key_value_heads", "n_head", "image_size", "patch_size"},
    DEPTH | TEXT | {"intermediate_size", "max_position_embeddings"},
    DEPTH | {"max_position_embeddings"},
    DEPTH,
)
VARIANTS = (
    *((SMALL, fields) for fields in LEVELS),
    *((WIDE, frozenset(SMALL) - {"head_dim", "image_size", "patch_size", more}) for more in ("", "v_head_dim")),
    (SMALL, frozenset()),
)
SWITCHES = {"use_cache": False, "use_pretrained_backbone": False}


def small(kind: type[Any], sizes: dict[str, int], given: dict[str, Any] | None = None) -> Any:
    """The default configuration of a class with its numbers set to `sizes`, as far as it allows that.

    `given` are fields that the configuration around it sets.
    """
    default = kind()
    parts = {
        name: _small_part(value, sizes)
        for name, value in vars(default).items()
        if isinstance(value, hf.PretrainedConfig) and not name.startswith("_")
    }
    wanted = {name: size for name, size in sizes.items() if _is_number(default, name)}
    wanted = (given or {}) | wanted | {name: value for name, value in SWITCHES.items() if hasattr(default, name)}
    own = _stages(given or {}) | FIELDS.get(kind.model_type or kind.__name__, {})
    with suppress(Exception):
        return kind(**parts | wanted | own)
    kept: dict[str, Any] = parts | own
    for name, value in wanted.items():
        with suppress(Exception):
            kind(**{name: value} | kept)
            kept = {name: value} | kept
    return kind(**kept)


def _small_part(part: Any, sizes: dict[str, int]) -> Any:
    """A part made small; a backbone of timm, which has no numbers to make small, is replaced by a small ResNet."""
    if part.model_type == "timm_backbone":
        last = range(5 - max(len(part.out_indices), 1), 5)
        return hf.ResNetConfig(**FIELDS["resnet_backbone"], out_features=[f"stage{k}" for k in last])
    return small(type(part), sizes, _set_apart(part))


def _stages(given: dict[str, Any]) -> dict[str, Any]:
    """As many layers as features are asked of a backbone whose stages are its layers; the features as they are."""
    names = given.get("out_features", ())
    if "num_hidden_layers" in given:
        names = [f"stage{k + 1}" for k in range(len(names))]
        return {"num_hidden_layers": len(names), "out_features": names}
    return {"out_features": names} if names else {}


def _set_apart(config: Any) -> dict[str, Any]:
    """The fields of a configuration that are not the defaults of its class; not those that follow from its depth."""
    default = type(config)()
    depth = getattr(config, "num_hidden_layers", None)
    found = {
        name: value
        for name, value in vars(config).items()
        if name in vars(default)
        and not (name.startswith("_") or name == "stage_names" or isinstance(value, hf.PretrainedConfig))
        and value != vars(default)[name]
        and not (isinstance(value, list | tuple) and len(value) == depth)
    }
    if getattr(config, "out_features", None) != getattr(default, "out_features", None):
        found["out_features"] = config.out_features
        if "num_hidden_layers" in vars(config):
            found["num_hidden_layers"] = depth
    return found


def _is_number(config: Any, name: str) -> bool:
    """Whether a field, under its own name or one that the class maps to it, is a number that may be set."""
    value = vars(config).get(name, "")
    if name not in vars(config):
        with suppress(Exception):  # one that differs from layer to layer
            value = getattr(config, name, "")
    return (isinstance(value, int) and not isinstance(value, bool)) or (value is None and name in UNSET)
