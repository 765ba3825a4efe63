"""Calibration data for models without an adapter of their own: audio, images or text, by the model's own processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.data.audio import AudioBatches
from permgraph.data.batches import Batches, Inputs, side_by_side
from permgraph.data.example_inputs import longest_text, needed_inputs
from permgraph.data.image_inputs import image_token
from permgraph.data.images import image_batches
from permgraph.data.processors import load_processor, tokenizer_in
from permgraph.data.text import TOKENS, token_rows
from permgraph.errors import CalibrationError


def read_batches(
    data: Path, *, model: nn.Module, folder: Path | None, seed: int = 0, batch_size: int = 4, limit: int | None = None
) -> Batches | AudioBatches:
    """Batches for the inputs of a transformers model, read from `data` by the processor in `folder`.

    Text is packed into rows of up to 128 tokens, without padding; images are resized by the image processor; audio is
    cut into windows (see `permgraph.data.audio`), to which the feature extractor is applied. A decoder gets the
    encoder's row of text, shifted by one; a model of text and images gets both, paired in order, but text alone if
    features of an image replace some of its tokens.
    Raises CalibrationError for a model or a processor it cannot use, and for data that is absent or unreadable.
    """
    names = () if folder is None else needed_inputs(model)
    if image_token(model) is not None:
        names = tuple(name for name in names if name != "pixel_values")
    main = [name for name in names if name in READERS]
    decodes = "decoder_input_ids" in names
    if folder is None or not main or {*names} - {*main} - {"decoder_input_ids"} or (decodes and main != ["input_ids"]):
        raise CalibrationError(
            f"{data}: there is no reader of data files for {type(model).__name__}. Match by weights (omit the data), "
            "give batches of your own (--data python:module:function, or permgraph.align), or write an adapter."
        )
    options: dict[str, Any] = {"model": model, "folder": folder, "seed": seed, "batch_size": batch_size, "limit": limit}
    found = [READERS[name](data, **options) for name in main]
    return found[0] if len(found) == 1 else side_by_side(found[0], found[1])


def _text(data: Path, *, model: nn.Module, folder: Path, seed: int, batch_size: int, limit: int | None) -> Batches:
    length, notes = longest_text(model, TOKENS), list[str]()
    rows = token_rows(data, tokenizer_in(folder), length, seed=seed, notes=notes)[:limit]
    start = _decoder_start(model) if "decoder_input_ids" in needed_inputs(model) else None

    def make(rows: list[list[int]]) -> Inputs:
        ids = torch.tensor(rows, device="cpu")
        return {"input_ids": ids} if start is None else {"input_ids": ids, "decoder_input_ids": shifted(ids, start)}

    return Batches(rows, make, batch_size, unit=f"rows of {length} tokens", notes=lambda: notes)


def shifted(ids: Tensor, start: int) -> Tensor:
    """Token ids shifted by one, beginning with `start`: the input of a decoder that should predict `ids`."""
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], dim=1)


def _decoder_start(model: nn.Module) -> int:
    config: Any = model.config
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    return int(next((value for name in names if (value := getattr(config, name, None)) is not None), 0))


def _images(data: Path, *, model: nn.Module, folder: Path, seed: int, batch_size: int, limit: int | None) -> Batches:
    processor = load_processor("AutoImageProcessor", folder)

    def pixels(images: list[Any]) -> Tensor:
        values: Tensor = processor(images=images, return_tensors="pt")["pixel_values"]
        return values

    return image_batches(data, "pixel_values", pixels, seed=seed, batch_size=batch_size, limit=limit)


def sound_batches(
    data: Path, *, model: nn.Module, folder: Path, seed: int = 0, batch_size: int = 4, limit: int | None = None
) -> Batches:
    """Windows of sound as the feature extractor in `folder` makes them, under the name of the model's main input."""
    extractor = load_processor("AutoFeatureExtractor", folder)
    rate = int(extractor.sampling_rate)
    padded = getattr(extractor, "chunk_length", None)  # such an extractor fills up what is shorter with silence
    windows = AudioBatches(
        data, rate=rate, seconds=float(padded or 5), batch_size=1, normalize=False, seed=seed, limit=limit,
        short=bool(padded),
    )  # fmt: skip
    name = str(model.main_input_name)

    def make(numbers: list[int]) -> Inputs:
        sounds = [windows.window(i) for i in numbers]
        return {name: extractor(sounds, sampling_rate=rate, return_tensors="pt")[name]}

    return Batches(list(range(len(windows))), make, batch_size, unit=windows.unit, notes=lambda: windows.notes)


READERS: dict[str, Callable[..., Batches]] = {
    "input_ids": _text,
    "pixel_values": _images,
    "input_values": sound_batches,
    "input_features": sound_batches,
}
