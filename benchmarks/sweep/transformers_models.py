"""Every model type of transformers as a small model with example inputs, without a line for any one of them.

A configuration is the default one of its class with the numbers that set its size made small (`SMALL`), in all its
parts; a field is left as it is where the class refuses the small one. Tried in turn: fewer of the fields (`LEVELS`),
and heads of the usual 64 to 128 units (`WIDE`), until one can be built and runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn
from transformers.models.auto import modeling_auto as auto

from permgraph.data.example_inputs import guess_inputs
from permgraph.errors import AdapterError

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
    "audio_token_id": WORDS - 1,
    "image_token_id": WORDS - 2,
}
WIDE = (
    SMALL
    | {name: 8 * WIDTH for name, size in SMALL.items() if size == WIDTH}
    | {name: HEADS // 2 for name, size in SMALL.items() if size == HEADS and "head" in name}
)
UNSET = frozenset(("head_dim", "vocab_size"))  # numbers although the default is none
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
MOST_PARAMETERS = 100e6
ORDER = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_CTC_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def names() -> list[str]:
    """All model types that have a model class."""
    return sorted({model_type for mapping in ORDER for model_type in getattr(auto, mapping)})


def classes(model_type: str) -> Iterator[type[nn.Module]]:
    """The classes for a model type, those with a head first."""
    for mapping in ORDER:
        found = getattr(auto, mapping).get(model_type, ())
        for name in (found,) if isinstance(found, str) else found:
            if (kind := getattr(hf, name, None)) is not None:
                yield kind


def build(model_type: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The first class of a model type that can be built small and runs on inputs that can be guessed."""
    problems: list[str] = []
    unguessed: set[type[nn.Module]] = set()
    for kind, (sizes, fields) in product(list(dict.fromkeys(classes(model_type))), VARIANTS):
        if kind in unguessed:
            continue
        try:
            with torch.device("meta"):
                config = small(kind.config_class, {name: sizes[name] for name in fields})
                size = sum(p.numel() for p in kind(config).parameters())
            if size > MOST_PARAMETERS:
                raise ValueError(f"{size:,} parameters")
            torch.manual_seed(0)
            model = kind(config).float().eval()
            return _runnable(model)
        except Exception as error:  # whatever a model's own code raises
            unguessed |= {kind} if isinstance(error, AdapterError) else set()  # whatever its size
            problems.append(f"{kind.__name__}: {type(error).__name__}: {str(error)[:120]}")
    raise RuntimeError("; ".join(dict.fromkeys(problems)))


def _runnable(model: nn.Module) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model with the guessed inputs, or with those of them that are text."""
    args, kwargs = inputs(model)
    text = {name: value for name, value in kwargs.items() if name != "pixel_values"}
    problems: list[Exception] = []
    for chosen in (kwargs, text) if text and len(text) < len(kwargs) else (kwargs,):
        try:
            with torch.no_grad():
                model(*args, **chosen)
        except Exception as error:
            problems.append(error)
        else:
            return model, args, chosen
    raise problems[0]


def small(kind: type[Any], sizes: dict[str, int]) -> Any:
    """The default configuration of a class with its numbers set to `sizes`, as far as it allows that."""
    default = kind()
    parts = {
        name: small(type(value), sizes)
        for name, value in vars(default).items()
        if isinstance(value, hf.PretrainedConfig) and not name.startswith("_")
    }
    wanted = {name: size for name, size in sizes.items() if _is_number(default, name)}
    switches = {"use_cache": False, "use_pretrained_backbone": False}
    wanted |= {name: value for name, value in switches.items() if hasattr(default, name)}
    with suppress(Exception):
        return kind(**parts, **wanted)
    kept: dict[str, Any] = dict(parts)
    for name, value in wanted.items():
        with suppress(Exception):
            kind(**kept, **{name: value})
            kept[name] = value
    return kind(**kept)


def _is_number(config: Any, name: str) -> bool:
    value = getattr(config, name, "")
    return (isinstance(value, int) and not isinstance(value, bool)) or (value is None and name in UNSET)


def inputs(model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Guessed inputs, short ones."""
    args, kwargs = guess_inputs(model)
    short = {k: v[:1, :LENGTH] if k in ("input_ids", "decoder_input_ids") else _short(k, v) for k, v in kwargs.items()}
    accepted = inspect.signature(model.forward).parameters
    if "input_ids" in short and "attention_mask" in accepted:
        short["attention_mask"] = torch.ones_like(short["input_ids"])
    return args, short


def _short(name: str, value: Tensor) -> Tensor:
    return value[:1, :4000] if name == "input_values" and value.dim() == 2 else value[:1]
