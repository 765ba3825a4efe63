"""The command line for tests: run it, two tiny HuBERT folders, clips to calibrate on."""

import json
import re

import numpy as np
import soundfile
import torch
from transformers import HubertConfig, HubertModel
from typer.testing import CliRunner

from permgraph.cli.app import app

RATE = 16_000
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
PROCESSOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": RATE, "do_normalize": True}
NORM = "encoder.layer_norm.weight"


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def hubert(folder, seed=0, processor=None, **changes):
    torch.manual_seed(seed)
    HubertModel(HubertConfig(**TINY | changes)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | (processor or {})))
    return folder


def clips(folder, seconds=5.0, count=2, gain=0.1):
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(count):
        sound = gain * noise.standard_normal(int(seconds * RATE))
        soundfile.write(folder / f"{number}.wav", sound, RATE, subtype="FLOAT")
    return folder


def only_json(result):
    """stdout is one JSON object and nothing else."""
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def require_error(result, expected):
    assert not result.stdout or only_json(result).keys() == {"error"}
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(expected, result.stderr), result.stderr
