"""Tiny models of transformers, for the table in `zoo`: hidden size 32, 4 heads of 8, feed-forward 64, 2 layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from zoo_rows import Case, L, Row

TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 40,
}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
}
MEL = {**BART, "num_mel_bins": 8, "max_source_positions": 20, "pad_token_id": 0}
IMAGE = {**TEXT, "image_size": 32, "patch_size": 16}
SPEECH = {**TEXT, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 7, "num_conv_pos_embedding_groups": 4}
GQA = {**TEXT, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}


MOE = {**GQA, "num_local_experts": 3, "num_experts_per_tok": 2}
SINGLE = 1e-5  # these compute their norms in float32 whatever they are given


def ids(*shape: int) -> torch.Tensor:
    """Token ids without specials."""
    return torch.randint(5, 50, shape)


def text(**more: Any) -> dict[str, Any]:
    return {"input_ids": ids(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long), **more}


def both() -> dict[str, Any]:
    return {"input_ids": ids(2, 6), "decoder_input_ids": ids(2, 4)}


def image(size: int = 32) -> dict[str, Any]:
    return {"pixel_values": torch.randn(1, 3, size, size)}


def audio() -> dict[str, Any]:
    return {"input_values": torch.randn(1, 1600)}


def mel(decoder: bool = False) -> dict[str, Any]:
    return {"input_features": torch.randn(1, 8, 40)} | ({"decoder_input_ids": ids(1, 4)} if decoder else {})


def of(kind: str, config: dict[str, Any], inputs: Callable[[], dict[str, Any]], **more: Any) -> Callable[[], Case]:
    """A builder of a case: the class `kind`, whose config class it names, with eager attention where asked."""

    def build() -> Case:
        torch.manual_seed(0)
        model_class = getattr(hf, kind)
        settings = model_class.config_class(**{"use_cache": False, **config}, **more)
        return Case(model_class(settings).eval(), (), inputs())

    return build


D, ATTENTION, RESIDUAL = L(64), L(4) + 8 * L(8), L(32)
LAYER = ATTENTION + D
"""Sym(4) of the heads, Sym(8) for QK and for VO of each, Sym(64)."""
CONVS = 7 * L(16)
POSITIONS = L(4) + 4 * L(8)
ROTARY = L(2) + 2 * L(2) + 2 * L(8) + D
"""2 key-value heads, 2 query heads each, VO; QK is pinned."""
SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 2}
ROWS = (
    Row("HubertModel", of("HubertModel", SPEECH, audio), CONVS + 2 * LAYER),
    Row("HubertModel, free outputs", of("HubertModel", SPEECH, audio), CONVS + POSITIONS + 2 * LAYER, outputs="free"),
    Row(
        "HubertModel, stable norm",
        of("HubertModel", SPEECH | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}, audio),
        CONVS + 2 * LAYER,
        slow=True,
    ),
    Row("Wav2Vec2ForCTC", of("Wav2Vec2ForCTC", SPEECH, audio), CONVS + POSITIONS + 2 * LAYER, slow=True),
    Row("WavLMModel", of("WavLMModel", SPEECH, audio), CONVS - L(16) + 2 * (D + 8 * L(8) + 2 * L(4)), slow=True),
    Row(
        "Data2VecAudioModel",
        of("Data2VecAudioModel", SPEECH | {"num_conv_pos_embeddings": 3}, audio),
        CONVS - L(16) + 2 * 4 * L(8) + 2 * LAYER,
        slow=True,
    ),
    Row("BertModel", of("BertModel", TEXT, text), 2 * LAYER),
    Row("BertForMaskedLM", of("BertForMaskedLM", TEXT, text), RESIDUAL + 2 * LAYER),
    Row("RobertaForMaskedLM", of("RobertaForMaskedLM", TEXT, text), RESIDUAL + 2 * LAYER, slow=True),
    Row("ElectraModel", of("ElectraModel", TEXT | {"embedding_size": 16}, text), L(16) + 2 * LAYER, slow=True),
    Row("AlbertModel", of("AlbertModel", TEXT | {"embedding_size": 16}, text), L(16) + LAYER),
    Row(
        "DistilBertForMaskedLM",
        of("DistilBertForMaskedLM", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 50}, text),
        RESIDUAL + 2 * LAYER,
        slow=True,
    ),
    Row("MPNetForMaskedLM", of("MPNetForMaskedLM", TEXT, text), RESIDUAL + 2 * LAYER - L(4), slow=True),
    Row(
        "DebertaV2Model",
        of(
            "DebertaV2Model",
            TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4},
            text,
        ),
        RESIDUAL + 2 * LAYER,
        slow=True,
    ),
    Row("ViTModel", of("ViTModel", IMAGE, image), 2 * LAYER),
    Row("ViTForImageClassification", of("ViTForImageClassification", IMAGE, image), RESIDUAL + 2 * LAYER),
    Row("BeitModel", of("BeitModel", IMAGE | {"use_relative_position_bias": True}, image), 2 * LAYER, slow=True),
    Row(
        "SwinForImageClassification",
        of("SwinForImageClassification", SWIN, lambda: image(16)),
        L(8) + 2 * (L(2) + 4 * L(4) + L(32)) + L(16) + L(4) + 8 * L(4) + L(64),
    ),
    Row(
        "ConvNextModel",
        of("ConvNextModel", {"hidden_sizes": [8, 12], "depths": [2, 1], "num_stages": 2}, image),
        L(8) + 2 * L(32) + L(48),
    ),
    Row(
        "ResNetModel",
        of(
            "ResNetModel",
            {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [2, 1], "layer_type": "bottleneck"},
            image,
        ),
        L(8) + L(16) + 2 * 2 * L(4) + 2 * L(6),
    ),
    Row(
        "CLIPModel",
        of(
            "CLIPModel",
            {"text_config": TEXT | {"eos_token_id": 2}, "vision_config": IMAGE, "projection_dim": 16},
            lambda: text() | image(),
        ),
        4 * LAYER,
        slow=True,
    ),
    Row(
        "GPT2LMHeadModel",
        of(
            "GPT2LMHeadModel",
            {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "vocab_size": 50, "n_positions": 40},
            text,
        ),
        RESIDUAL + 2 * LAYER,
    ),
    Row("LlamaForCausalLM", of("LlamaForCausalLM", GQA, text), RESIDUAL + 2 * ROTARY, tolerance=SINGLE),
    Row(
        "LlamaForCausalLM, eager",
        of("LlamaForCausalLM", GQA, text, attn_implementation="eager"),
        RESIDUAL + 2 * ROTARY,
        tolerance=SINGLE,
        slow=True,
    ),
    Row(
        "MistralForCausalLM",
        of("MistralForCausalLM", GQA | {"sliding_window": 4}, text),
        RESIDUAL + 2 * ROTARY,
        tolerance=SINGLE,
        slow=True,
    ),
    Row("Qwen2ForCausalLM", of("Qwen2ForCausalLM", GQA, text), RESIDUAL + 2 * ROTARY, tolerance=SINGLE, slow=True),
    Row("Qwen3ForCausalLM", of("Qwen3ForCausalLM", GQA, text), RESIDUAL + 2 * ROTARY, tolerance=SINGLE, slow=True),
    Row("GemmaForCausalLM", of("GemmaForCausalLM", GQA, text), RESIDUAL + 2 * ROTARY, tolerance=SINGLE, slow=True),
    Row("Gemma2ForCausalLM", of("Gemma2ForCausalLM", GQA, text), RESIDUAL + 2 * ROTARY, tolerance=SINGLE, slow=True),
    Row(
        "PhiForCausalLM",
        of("PhiForCausalLM", TEXT | {"partial_rotary_factor": 0.5}, text),
        RESIDUAL + 2 * (L(4) + 4 * L(4) + 4 * L(8) + D),
    ),
    Row("Phi3ForCausalLM", of("Phi3ForCausalLM", GQA, text), RESIDUAL + 2 * ROTARY, tolerance=SINGLE, slow=True),
    Row("GPTNeoXForCausalLM", of("GPTNeoXForCausalLM", TEXT, text), RESIDUAL + 2 * (L(4) + 4 * L(6) + 4 * L(8) + D)),
    Row(
        "BloomForCausalLM",
        of("BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50}, text),
        RESIDUAL + 2 * (8 * L(8) + L(128)),
    ),
    Row(
        "FalconForCausalLM",
        of("FalconForCausalLM", TEXT, text),
        RESIDUAL + 2 * (L(4) + L(8) + L(128)),
    ),
    Row(
        "OPTForCausalLM",
        of("OPTForCausalLM", TEXT | {"ffn_dim": 64, "word_embed_proj_dim": 32}, text),
        RESIDUAL + 2 * LAYER,
    ),
    Row(
        "T5ForConditionalGeneration",
        of(
            "T5ForConditionalGeneration",
            {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 50},
            both,
        ),
        4 * D + 2 * L(4) + 2 * L(4) + 6 * 8 * L(8),
        tolerance=SINGLE,
    ),
    Row(
        "BartForConditionalGeneration",
        of("BartForConditionalGeneration", BART, both),
        6 * ATTENTION + 4 * D,
        slow=True,
    ),
    Row("Whisper encoder", lambda: encoder_of(of("WhisperModel", MEL, mel)()), RESIDUAL + 2 * LAYER),
    Row(
        "WhisperForConditionalGeneration",
        of("WhisperForConditionalGeneration", MEL, lambda: mel(True)),
        2 * RESIDUAL + 6 * ATTENTION + 4 * D,
        slow=True,
    ),
    Row(
        "MambaForCausalLM",
        of(
            "MambaForCausalLM",
            {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50, "state_size": 4, "time_step_rank": 5},
            lambda: {"input_ids": ids(1, 6)},
        ),
        RESIDUAL + 2 * (L(64) + L(4) + L(5)),
        tolerance=SINGLE,
        slow=True,
    ),
)


def encoder_of(case: Case) -> Case:
    """The encoder alone."""
    return Case(case.model.get_encoder().eval(), case.args, case.kwargs)
