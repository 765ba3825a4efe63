"""Calibration files that are odd, damaged or made to do harm: read rightly, or refused by name."""

import json
import struct
import wave
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from permgraph.data.audio import AudioBatches
from permgraph.data.batches import Batches
from permgraph.data.images import read_image
from permgraph.data.text import read_texts, token_rows
from permgraph.errors import CalibrationError, OptionError


def sixteen_bits(path):
    Image.fromarray(np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)).save(path)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    sixteen_bits(tmp_path / "ramp.png")
    found = np.asarray(read_image(tmp_path / "ramp.png"))
    assert found.shape == (16, 16, 3)
    assert np.array_equal(found[..., 0].ravel(), np.arange(256))


def png(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PICTURES = {
    "a bomb": (png(50_000, 50_000), "50000 × 50000|decompression bomb"),
    "large": (png(11_000, 10_000), "it has 11000 × 10000 pixels, more than 100,000,000"),
    "cut": (png(8, 8), "cannot be read as an image"),
    "text": (b"hello", "cannot be read as an image"),
    "nothing": (b"", "cannot be read as an image"),
}


@pytest.mark.parametrize(("content", "message"), PICTURES.values(), ids=PICTURES)
def test_pictures_that_are_none_or_too_large_are_refused(tmp_path, content, message):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(CalibrationError, match=message) as caught:
        read_image(tmp_path / "x.png")
    assert "x.png" in str(caught.value)


LINES = {
    "nested too deep": ("[" * 5000, "line 1: is not JSON"),
    "no text": ("3", "line 1: holds no text"),
    "cut": ('{"text": "a', "line 1: is not JSON"),
}


@pytest.mark.parametrize(("line", "message"), LINES.values(), ids=LINES)
def test_lines_that_are_no_text_are_refused(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises(CalibrationError, match=message):
        list(read_texts(tmp_path / "x.jsonl"))


def test_half_a_pair_is_no_text_and_stops_nothing(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps("a\ud800b") + "\n" + json.dumps({"x": "c\udfff", "y": "d"}) + "\n")
    assert list(read_texts(tmp_path / "x.jsonl")) == ["a?b", "c?\nd"]


def test_a_large_text_is_read_in_pieces_of_whole_lines(tmp_path):
    lines = [f"line {number}\n" for number in range(100_000)]
    (tmp_path / "x.txt").write_text("".join(lines))
    pieces = list(read_texts(tmp_path / "x.txt"))
    assert len(pieces) > 3
    assert all(piece.endswith("\n") for piece in pieces)
    assert "".join(pieces) == "".join(lines)


@pytest.mark.parametrize(
    "kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int8(), pyarrow.string())]
)
def test_tables_hold_text_in_every_form(tmp_path, kind):
    column = pyarrow.array(["one", "two", "one"]).cast(kind)
    parquet.write_table(pyarrow.table({"text": column}), tmp_path / "x.parquet")
    assert list(read_texts(tmp_path / "x.parquet")) == ["one", "two", "one"]


class Tokenizer:
    def __call__(self, text, add_special_tokens=True, **_):
        ids = [5] * len(text)
        return {"input_ids": [1, *ids, 2] if add_special_tokens else ids}


def test_a_model_with_no_room_for_text_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(CalibrationError, match="has 2 positions, and the special tokens of its tokenizer take 2"):
        token_rows(tmp_path, Tokenizer(), 2)


def sound(path, rate=16_000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.random.default_rng(0).integers(-9, 9, 4000 * channels, dtype=np.int16).tobytes())


@pytest.mark.parametrize("options", [{"seconds": 0}, {"rate": 0}, {"batch_size": 0}, {"seconds": -1}, {"seconds": 1e9}])
def test_windows_of_no_length_are_refused(tmp_path, options):
    sound(tmp_path / "x.wav")
    with pytest.raises(OptionError, match="must be above 0"):
        AudioBatches(tmp_path, **options)


def test_more_channels_than_any_recording_has_are_refused(tmp_path):
    sound(tmp_path / "x.wav", channels=1025)
    with pytest.raises(CalibrationError, match=r"x\.wav: cannot be read as audio"):
        AudioBatches(tmp_path, seconds=0.1)


def test_batches_of_nothing_are_refused():
    with pytest.raises(OptionError, match="batch_size is 0"):
        Batches([1], dict, 0)
