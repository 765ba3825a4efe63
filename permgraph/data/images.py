"""Calibration images: a folder of pictures as batches of pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.data.batches import Batches, Inputs, files_with, shuffled
from permgraph.errors import CalibrationError
from permgraph.requirements import unusable
from permgraph.wording import reason

MOST_PIXELS = 100_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def image_batches(
    data: Path,
    name: str,
    pixels: Callable[[list[Any]], Tensor],
    *,
    seed: int = 0,
    batch_size: int = 4,
    limit: int | None = None,
) -> Batches:
    """Batches `{name: pixels(images)}` of the pictures in a folder and all below it, in RGB, shuffled by `seed`.

    Raises CalibrationError for a folder without pictures and for one that cannot be read.
    """

    def make(paths: list[Path]) -> Inputs:
        return {name: pixels([read_image(path) for path in paths])}

    return Batches(shuffled(files_with(data, SUFFIXES, "image"), seed)[:limit], make, batch_size, unit="images")


def read_image(path: Path) -> Any:
    """A picture in RGB, by Pillow; 16 bits a channel are scaled to 8, as (v / 257).

    Raises CalibrationError naming a file that is none, or has more than `MOST_PIXELS`.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise CalibrationError(
            f"{path}: reading images needs {unusable('Pillow', error, install='permgraph[image]', module='PIL')}."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on sizes that are refused below
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"it has {image.width} × {image.height} pixels, more than {MOST_PIXELS:,}")
                return _eight_bits(image, Image).convert("RGB")
    except Exception as error:  # a damaged picture raises anything, and so does one of sizes past any
        raise CalibrationError(
            f"{path}: cannot be read as an image: {reason(error)}. Repair or remove this file."
        ) from error


def _eight_bits(image: Any, pillow: Any) -> Any:
    """Pillow clips 16 bits when it converts them: most of a picture would be white."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    return pillow.fromarray(np.clip(np.round(values / 257), 0, 255).astype(np.uint8))
