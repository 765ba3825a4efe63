"""Calibration text: plain, JSON lines and Parquet, for encoders, encoder-decoders and models of text and images."""

import json

import folders
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from tiny_models import MODELS, built
from typer.testing import CliRunner

from permgraph.cli.app import app
from permgraph.data import text
from permgraph.data.calibration import read_batches
from permgraph.errors import CalibrationError
from permgraph.models.loading import load


def table(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


FILES = {
    "plain": ("a.txt", lambda p: p.write_text("w1 w2"), ["w1 w2"]),
    "markdown": ("a.md", lambda p: p.write_text("w1"), ["w1"]),
    "strings": ("a.jsonl", lambda p: p.write_text('"w1"\n\n"w2"\n'), ["w1", "w2"]),
    "objects": (
        "a.jsonl",
        lambda p: p.write_text('{"id": 1, "text": "w1", "title": "w9"}\n{"a": "w2", "b": "w3"}'),
        ["w1", "w2\nw3"],
    ),
    "table": ("a.parquet", lambda p: table(p, text=["w1", "w2"], other=["x", "y"]), ["w1", "w2"]),
    "table of content": ("a.parquet", lambda p: table(p, content=["w1"], id=["x"]), ["w1"]),
    "an empty cell": ("a.parquet", lambda p: table(p, text=["w1", None]), ["w1", ""]),
    "table of any strings": ("a.parquet", lambda p: table(p, q=["w1"], n=[1], a=["w2"]), ["w1\nw2"]),
}


@pytest.mark.parametrize("name", FILES)
def test_texts_of_a_file(tmp_path, name):
    file, write, expected = FILES[name]
    write(tmp_path / file)
    assert list(text.read_texts(tmp_path / file)) == expected


BROKEN = {
    "no JSON": ("a.jsonl", lambda p: p.write_text('"w1"\nw2\n'), r"a\.jsonl, line 2: is not JSON"),
    "no text": ("a.jsonl", lambda p: p.write_text('{"id": 3}'), r"a\.jsonl, line 1: holds no text.*`text`"),
    "a number": ("a.jsonl", lambda p: p.write_text("3"), "holds no text"),
    "not UTF-8": ("a.txt", lambda p: p.write_bytes(b"\xff\xfe\x00"), r"a\.txt: cannot be read as UTF-8"),
    "no table": ("a.parquet", lambda p: p.write_text("w1 w2"), r"a\.parquet: cannot be read as Parquet"),
    "no column of text": ("a.parquet", lambda p: table(p, n=[1, 2]), r"has no column of text \(n: int64\)"),
    "a folder": ("a.txt", lambda p: p.mkdir(), r"a\.txt: cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_without_text_is_refused_by_name(tmp_path, name):
    file, write, message = BROKEN[name]
    write(tmp_path / file)
    with pytest.raises(CalibrationError, match=message):
        list(text.read_texts(tmp_path / file))


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(CalibrationError, match=r"pip install 'permgraph\[text\]'"):
        list(text.read_texts(tmp_path / "a.parquet"))


def test_all_formats_lie_in_one_folder(tmp_path):
    folders.bert(tmp_path / "a")
    folders.sentences(tmp_path / "texts")
    table(tmp_path / "texts" / "c.parquet", text=["w5 " * 100])
    loaded = load(str(tmp_path / "a"))
    batches = loaded.calibration(tmp_path / "texts", batch_size=1)
    assert len(batches) == (400 + 400 + 100) // 36
    assert all(batch["input_ids"].shape == (1, 38) for batch in batches)
    few = loaded.calibration(tmp_path / "texts", batch_size=2, limit=4, seed=3)
    assert len(few) == 2
    assert torch.equal(next(iter(few))["input_ids"], next(iter(few))["input_ids"])


def test_reading_stops_when_there_is_more_than_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MOST_TOKENS", 100)
    folders.bert(tmp_path / "a")
    folders.sentences(tmp_path / "texts")
    (tmp_path / "texts" / "z.txt").write_bytes(b"\xff")  # never reached
    assert len(load(str(tmp_path / "a")).calibration(tmp_path / "texts", batch_size=1)) == 400 // 36


def test_a_decoder_is_given_the_row_one_place_later(tmp_path):
    built("t5").save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "vocab.txt").write_text("\n".join(folders.WORDS))
    (tmp_path / "a" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    loaded = load(str(tmp_path / "a"))
    loaded.model.config.decoder_start_token_id = 0
    batch = next(iter(loaded.calibration(folders.sentences(tmp_path / "texts"))))
    assert torch.equal(batch["decoder_input_ids"][:, 1:], batch["input_ids"][:, :-1])
    assert not bool(batch["decoder_input_ids"][:, 0].any())


def test_a_model_of_text_and_images_is_given_pairs(tmp_path):
    built("clip").save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "vocab.txt").write_text("\n".join(folders.WORDS))
    (tmp_path / "a" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(processor))
    data = folders.sentences(tmp_path / "pairs")
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 40 * number, dtype=np.uint8)).save(data / f"{number}.png")
    batches = list(load(str(tmp_path / "a")).calibration(data, batch_size=2))
    assert [{name: tensor.shape[0] for name, tensor in batch.items()} for batch in batches] == [
        {"input_ids": 2, "pixel_values": 2}
    ]


def test_an_encoder_decoder_of_sound_has_no_text_to_give(tmp_path):
    assert "whisper" in MODELS
    with pytest.raises(CalibrationError, match=r"there is no reader of data files for WhisperModel.*--data python:"):
        read_batches(tmp_path, model=built("whisper"), folder=tmp_path)


PYTHON = """
import torch
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)), (torch.ones(2, 4),), {}
def batches():
    return (torch.randn(64, 4, generator=torch.Generator().manual_seed(k)) for k in range(3))
def one():
    return torch.ones(2, 4)
def fails():
    raise RuntimeError("no luck")
"""


def test_batches_made_by_a_function(tmp_path, monkeypatch):
    (tmp_path / "batches_for_test.py").write_text(PYTHON)
    monkeypatch.chdir(tmp_path)
    loaded = load("python:batches_for_test:model")
    assert len(loaded.calibration("python:batches_for_test:batches", limit=2)) == 2
    for name, message in {
        "one": "returned one Tensor, not an iterable",
        "fails": "no luck",
        "absent": "absent",
    }.items():
        with pytest.raises(CalibrationError, match=message):
            loaded.calibration(f"python:batches_for_test:{name}")
    (tmp_path / "files").mkdir()
    with pytest.raises(CalibrationError, match="there is no reader of data files for Sequential"):
        loaded.calibration(tmp_path / "files")


def merged(folder, *words):
    result = CliRunner().invoke(app, ["merge", *map(str, words), "--json", "--quiet", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_two_berts_are_matched_on_text(tmp_path):
    """The class token, of which a pooler makes a cell of its own, is the same in all samples before any attention."""
    for seed, name in enumerate("ab"):
        folders.bert(tmp_path / name, seed=seed)
    data = folders.sentences(tmp_path / "texts", 3000)
    found = merged(tmp_path / "out", tmp_path / "a", tmp_path / "b", "--data", data)
    assert found["method"] == "correlation"
    assert found["gains"]["encoder.layer.0.hidden"]["solution"] > found["gains"]["encoder.layer.0.hidden"]["identity"]


def test_two_vits_are_matched_on_images(tmp_path):
    for seed, name in enumerate("ab"):
        folders.vit(tmp_path / name, seed=seed, patch_size=4)
    (tmp_path / "pictures").mkdir()
    for number in range(48):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    found = merged(tmp_path / "out", tmp_path / "a", tmp_path / "b", "--data", tmp_path / "pictures")
    assert found["method"] == "correlation"
    assert found["certificate"]["ok"]
