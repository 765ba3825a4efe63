"""Tiny transformers models of every kind of input, by name."""

import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
    WhisperConfig,
    WhisperModel,
)

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = SMALL | {"vocab_size": 50, "max_position_embeddings": 40}
WHISPER = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 60,
    "max_source_positions": 20, "max_target_positions": 20, "num_mel_bins": 8, "pad_token_id": 1, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 3,
}  # fmt: skip
TOWERS = {"text_config": TEXT | {"eos_token_id": 2}, "vision_config": SMALL | {"image_size": 32, "patch_size": 16}}
MODELS = {
    "bert": (BertModel, lambda: BertConfig(**TEXT)),
    "vit": (ViTModel, lambda: ViTConfig(**SMALL, image_size=32, patch_size=16)),
    "gpt2": (GPT2LMHeadModel, lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=40)),
    "llama": (LlamaForCausalLM, lambda: LlamaConfig(**TEXT, num_key_value_heads=2, tie_word_embeddings=True)),
    "whisper": (WhisperModel, lambda: WhisperConfig(**WHISPER)),
    "t5": (T5ForConditionalGeneration, lambda: T5Config(d_model=32, d_ff=64, num_layers=1, num_heads=4, vocab_size=50)),
    "clip": (CLIPModel, lambda: CLIPConfig(**TOWERS)),
}


def built(name):
    kind, config = MODELS[name]
    torch.manual_seed(0)
    return kind(config()).eval()
