"""Tiny checkpoint folders of transformers models, with the tokenizer or processor files that calibration needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = SIZES | {"vocab_size": 50, "max_position_embeddings": 40}
IMAGE = SIZES | {"image_size": 32, "patch_size": 16}
SPEECH = SIZES | {
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 12,
}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(40)))


def checkpoint(folder: Path, kind: str, fields: dict[str, Any], *, seed: int = 0, **more: Any) -> Path:
    """`folder` with a random model of the transformers class `kind`, weights spread so that units are told apart."""
    torch.manual_seed(seed)
    model_class = getattr(hf, kind)
    model = model_class(model_class.config_class(**fields | more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def bert(folder: Path, kind: str = "BertModel", *, seed: int = 0, words: tuple[str, ...] = WORDS, **more: Any) -> Path:
    """A BERT, or another model of text, with a tokenizer of whole words."""
    checkpoint(folder, kind, TEXT, seed=seed, **more)
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


def vit(folder: Path, kind: str = "ViTModel", *, seed: int = 0, **more: Any) -> Path:
    """A ViT with its image processor."""
    checkpoint(folder, kind, IMAGE, seed=seed, **more)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def hubert_ctc(folder: Path, *, seed: int = 0, letters: str = "abcdefgh", **more: Any) -> Path:
    """A HuBERT with a CTC head and the letters that it writes."""
    checkpoint(folder, "HubertForCTC", SPEECH, seed=seed, **more)
    tokens = {token: number for number, token in enumerate(("<pad>", "<s>", "</s>", "<unk>", *letters))}
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Wav2Vec2CTCTokenizer"}')
    return folder


def sentences(folder: Path, count: int = 400) -> Path:
    """Three files of words that the tokenizer of `bert` knows: plain text, JSON lines, a table."""
    folder.mkdir()
    words = [f"w{(7 * i * i + i) % 40}" for i in range(count)]
    (folder / "a.txt").write_text(" ".join(words))
    lines = [json.dumps({"id": i, "text": " ".join(words[i : i + 20])}) for i in range(0, count, 20)]
    (folder / "b.jsonl").write_text("\n".join(lines) + "\n\n")
    return folder
