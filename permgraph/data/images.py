"""Calibration images: a folder of pictures as batches of pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from permgraph.data.batches import Batches, Inputs, files_with, shuffled
from permgraph.errors import CalibrationError, reason

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

    return Batches(shuffled(files_with(data, SUFFIXES, "image"), seed)[:limit], make, batch_size)


def read_image(path: Path) -> Any:
    """A picture in RGB, by Pillow. Raises CalibrationError naming a file that is none."""
    try:
        from PIL import Image
    except ImportError as error:
        raise CalibrationError(f"{path}: reading images needs Pillow: pip install 'permgraph[image]'.") from error
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError) as error:
        raise CalibrationError(
            f"{path}: cannot be read as an image: {reason(error)}. Repair or remove this file."
        ) from error
