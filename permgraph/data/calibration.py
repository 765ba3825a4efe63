"""Calibration data for models without an adapter of their own: audio, images or text, by the model's own processor."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from permgraph.data.audio import AudioBatches
from permgraph.errors import CalibrationError
from permgraph.models.example_inputs import longest_text

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TEXT_SUFFIXES = (".txt", ".md")
TOKENS = 128
VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")


class Batches:
    """Batches `{name: tensor}` of `samples`, each made when it is needed; all have the same shape.

    What does not fill a last batch is dropped; with fewer samples than `batch_size` the batch is smaller.
    """

    def __init__(self, name: str, samples: list[Any], make: Callable[[list[Any]], Tensor], batch_size: int) -> None:
        self.name = name
        self.batch_size = min(batch_size, len(samples))
        self._samples = samples
        self._make = make

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._samples) // self.batch_size

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number in range(len(self)):
            batch = self._make(self._samples[number * self.batch_size : (number + 1) * self.batch_size])
            if not bool(torch.isfinite(batch).all()):
                raise CalibrationError(f"batch {number} of {self.name} holds NaN or infinite values. Repair the files.")
            yield {self.name: batch}


def read_batches(
    data: Path, *, model: nn.Module, folder: Path | None, seed: int = 0, batch_size: int = 4, limit: int | None = None
) -> Batches | AudioBatches:
    """Batches for the main input of a transformers model, read from `data` by the processor in `folder`.

    Text is packed into rows of up to 128 tokens, without padding; images are resized by the image processor; audio is
    cut into windows (see `permgraph.data.audio`) and turned into what the feature extractor makes of them.
    Raises CalibrationError for a model or a processor it cannot use, and for data that is absent or unreadable.
    """
    readers = {"input_ids": _text, "pixel_values": _images, "input_values": _sound, "input_features": _sound}
    name = str(getattr(model, "main_input_name", ""))
    if folder is None or name not in readers:
        raise CalibrationError(
            f"{data}: nothing is known of how {type(model).__name__} reads files. Match by weights (leave the data "
            "away), call permgraph.align with batches of your own, or write an adapter."
        )
    return readers[name](data, model=model, folder=folder, seed=seed, batch_size=batch_size, limit=limit)


def _text(data: Path, *, model: nn.Module, folder: Path, seed: int, batch_size: int, limit: int | None) -> Batches:
    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        # transformers would make up an empty vocabulary, and every token would be unknown.
        raise CalibrationError(
            f"{folder}: has no vocabulary ({', '.join(VOCABULARIES)}). Put the tokenizer files there."
        )
    tokenizer = _processor("AutoTokenizer", folder)
    with_ends, plain = (tokenizer("a", add_special_tokens=ends)["input_ids"] for ends in (True, False))
    start = next((i for i in range(len(with_ends)) if with_ends[i : i + len(plain)] == plain), 0)
    head, tail = with_ends[:start], with_ends[start + len(plain) :]
    size = longest_text(model, TOKENS) - len(head) - len(tail)
    ids: list[int] = []
    for path in _files(data, TEXT_SUFFIXES, "text"):
        try:
            ids += tokenizer(path.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"]
        except (OSError, UnicodeDecodeError) as error:
            raise CalibrationError(f"{path}: cannot be read as UTF-8 text: {error}. Convert or remove it.") from error
    rows = [[*head, *ids[i : i + size], *tail] for i in range(0, len(ids) - size + 1, size)]
    if not rows:
        raise CalibrationError(f"{data}: {len(ids)} tokens of text are less than one row of {size}. Add text.")
    return Batches("input_ids", _shuffled(rows, seed)[:limit], torch.tensor, batch_size)


def _images(data: Path, *, model: nn.Module, folder: Path, seed: int, batch_size: int, limit: int | None) -> Batches:
    processor = _processor("AutoImageProcessor", folder)

    def make(paths: list[Path]) -> Tensor:
        pixels: Tensor = processor(images=[_image(path) for path in paths], return_tensors="pt")["pixel_values"]
        return pixels

    return Batches("pixel_values", _shuffled(_files(data, IMAGE_SUFFIXES, "image"), seed)[:limit], make, batch_size)


def _image(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: cannot be read as an image: {error}. Repair or remove this file.") from error


def _sound(data: Path, *, model: nn.Module, folder: Path, seed: int, batch_size: int, limit: int | None) -> Batches:
    extractor = _processor("AutoFeatureExtractor", folder)
    rate = int(extractor.sampling_rate)
    windows = AudioBatches(
        data, rate=rate, seconds=float(getattr(extractor, "chunk_length", None) or 5), batch_size=1, normalize=False,
        seed=seed, limit=limit,
    )  # fmt: skip
    name = str(model.main_input_name)

    def make(numbers: list[int]) -> Tensor:
        sounds = [windows.window(i) for i in numbers]
        features: Tensor = extractor(sounds, sampling_rate=rate, return_tensors="pt")[name]
        return features

    return Batches(name, list(range(len(windows))), make, batch_size)


def _processor(kind: str, folder: Path) -> Any:
    try:
        return getattr(import_module("transformers"), kind).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # each processor has its own ways to fail
        reason = (str(error).splitlines() or [""])[0]
        raise CalibrationError(
            f"{folder}: its processor ({kind}) cannot be loaded: {type(error).__name__}: {reason}. Put the tokenizer "
            "or preprocessor files of the model beside its weights."
        ) from error


def _files(data: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise CalibrationError(f"{data}: no {what} files (looked for {', '.join(suffixes)} here and below). Add some.")
    return found


def _shuffled(items: list[Any], seed: int) -> list[Any]:
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]
