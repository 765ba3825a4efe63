"""Text, pictures and sound as the processors of a folder read them."""

import json

import numpy as np
import pytest
import soundfile
import torch
from tiny_models import WHISPER, built
from transformers import WhisperConfig, WhisperModel

from permgraph.data.calibration import read_batches
from permgraph.errors import CalibrationError
from permgraph.models.loading import load


def tokenizer_files(folder):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", *(f"w{i}" for i in range(40))]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def test_text_is_packed_between_the_special_tokens(tmp_path):
    built("bert").save_pretrained(tmp_path / "a")
    tokenizer_files(tmp_path / "a")
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_text(" ".join(f"w{i % 40}" for i in range(60)))
    batches = load(str(tmp_path / "a")).calibration(tmp_path / "texts", batch_size=2)
    rows = torch.cat([batch["input_ids"] for batch in batches])
    assert rows.shape == (4, 38)  # 180 tokens in rows of 36 and two ends, 5 rows, 2 a batch
    assert rows[:, 0].tolist() == [2] * 4
    assert rows[:, -1].tolist() == [3] * 4
    assert bool((rows[:, 1:-1] > 4).all())


def test_images_are_read_by_the_image_processor(tmp_path):
    image = pytest.importorskip("PIL.Image")
    built("vit").save_pretrained(tmp_path / "a")
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "pictures").mkdir()
    for number in range(18):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    loaded = load(str(tmp_path / "a"))
    shapes = [tuple(batch["pixel_values"].shape) for batch in loaded.calibration(tmp_path / "pictures")]
    assert shapes == [(16, 3, 32, 32)]
    (tmp_path / "pictures" / "bad.png").write_text("no image")
    with pytest.raises(CalibrationError, match=r"bad\.png: cannot be read as an image"):
        list(loaded.calibration(tmp_path / "pictures", batch_size=1))


def test_sound_is_read_by_the_feature_extractor(tmp_path):
    torch.manual_seed(0)
    WhisperModel(WhisperConfig(**WHISPER | {"max_source_positions": 50})).save_pretrained(tmp_path / "a")
    extractor = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 8, "chunk_length": 1}
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(extractor))
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000 * 3), 16_000)
    loaded = load(str(tmp_path / "a"))
    (batch,) = loaded.calibration(tmp_path / "sounds", batch_size=3)
    assert tuple(batch["input_features"].shape) == (3, 8, 100)
    ids = batch["decoder_input_ids"]
    assert ids.shape == (3, 20)
    assert bool((ids[:, 0] == WHISPER["decoder_start_token_id"]).all())
    stream = loaded.model(batch["input_features"], decoder_input_ids=ids).last_hidden_state
    assert torch.equal((stream @ loaded.model.decoder.embed_tokens.weight.T).argmax(-1)[:, :-1], ids[:, 1:])
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(extractor | {"chunk_length": 2}))
    with pytest.raises(CalibrationError, match="makes 200 frames of a window, and the model takes 100"):
        list(load(str(tmp_path / "a")).calibration(tmp_path / "sounds", batch_size=1))


def test_data_that_cannot_be_read_says_why(tmp_path):
    built("bert").save_pretrained(tmp_path / "a")
    (tmp_path / "texts").mkdir()
    loaded = load(str(tmp_path / "a"))
    with pytest.raises(CalibrationError, match="no such folder"):
        loaded.calibration(tmp_path / "absent")
    with pytest.raises(CalibrationError, match=r"config\.json: is a file\. Give a folder"):
        loaded.calibration(tmp_path / "a" / "config.json")
    with pytest.raises(CalibrationError, match="has no vocabulary"):
        loaded.calibration(tmp_path / "texts")
    with pytest.raises(CalibrationError, match=r"processor \(AutoImageProcessor\) cannot be loaded"):
        read_batches(tmp_path, model=built("vit"), folder=tmp_path)
    tokenizer_files(tmp_path / "a")
    with pytest.raises(CalibrationError, match="no text files"):
        loaded.calibration(tmp_path / "texts")
    (tmp_path / "texts" / "a.txt").write_text("w1 w2")
    with pytest.raises(CalibrationError, match="2 tokens of text"):
        loaded.calibration(tmp_path / "texts")
    (tmp_path / "texts" / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="UTF-8"):
        loaded.calibration(tmp_path / "texts")
    with pytest.raises(CalibrationError, match="there is no reader of data files for Linear"):
        read_batches(tmp_path, model=torch.nn.Linear(1, 1), folder=None)
