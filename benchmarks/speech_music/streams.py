"""Random crops of a prepared stream with what the encoder is to predict on them, and the masks.

A batch depends on the generator alone, so that a run that was stopped goes on as an unbroken one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.speech_music.features import HOP, SPECTRUM, WINDOW, spectrum
from benchmarks.speech_music.recordings import folder_of

MASK_START = 0.08
MASK_LENGTH = 10


@dataclass(frozen=True)
class Batch:
    """Audio (n, samples), mean 0 and variance 1; labels (n, frames, streams); mask (n, frames).

    `spectrum` (n, frames, bands), or (n, frames, 0) where nothing is to be reconstructed.
    """

    audio: Tensor
    labels: Tensor
    spectrum: Tensor
    mask: Tensor

    def to(self, device: str) -> Batch:
        """The same on `device`."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


class Stream:
    """Random crops of one split: `samples` int16, `targets` one row for each 320 samples.

    `teacher` names the targets' file; `reconstruct`: with the crops' `features.spectrum`. Crops start anywhere with
    equal chance; `balanced`, each source (package) with equal chance.
    """

    def __init__(
        self,
        domain: str,
        split: str,
        *,
        corpus: str = "shipped",
        teacher: str = "targets",
        reconstruct: bool = False,
        balanced: bool = False,
    ) -> None:
        folder = folder_of(domain, corpus)
        self.samples: NDArray[np.int16] = np.load(folder / f"{split}.npy", mmap_mode="r")
        self.targets: NDArray[np.uint8] = np.load(folder / f"{split}-{teacher}.npy")
        self.bands = SPECTRUM if reconstruct else 0
        clips = json.loads((folder / "manifest.json").read_text())
        self.regions = regions([c for c in clips if c["split"] == split], balanced)

    def batch(self, rng: np.random.Generator, size: int, frames: int) -> Batch:
        """`size` crops of `frames` frames at multiples of 320 samples, with a mask each."""
        chosen = rng.integers(0, len(self.regions), size)
        starts = [int(rng.integers(first, last - frames)) for first, last in self.regions[chosen]]
        length = (frames - 1) * HOP + WINDOW
        crops = np.stack([self.samples[s * HOP : s * HOP + length] for s in starts])
        labels = np.stack([self.targets[s : s + frames] for s in starts]).astype(np.int64)
        bands = np.zeros((size, frames, 0), np.float32)
        if self.bands:
            bands = np.stack([spectrum(crop.astype(np.float32) / 32768) for crop in crops])
        audio = normalised(crops)
        return Batch(*map(torch.from_numpy, (audio, labels, bands, span_mask(rng, size, frames))))


def normalised(crops: NDArray[Any]) -> NDArray[np.float32]:
    """Each row with mean 0 and variance 1, as the encoders' feature extractor makes it."""
    audio = crops.astype(np.float32)
    audio -= audio.mean(1, keepdims=True)
    audio /= audio.std(1, keepdims=True) + 1e-3
    return audio


def regions(clips: list[dict[str, Any]], balanced: bool) -> NDArray[np.int64]:
    """(first, last) frame of the whole split, or of each source if `balanced`: (regions, 2)."""
    spans: dict[str, list[int]] = {}
    for clip in clips:
        ends = (clip["offset"] // HOP, (clip["offset"] + clip["samples"]) // HOP - 1)
        spans.setdefault(clip["source"] if balanced else "", []).extend(ends)
    return np.array([(min(ends), max(ends)) for ends in spans.values()])


def span_mask(rng: np.random.Generator, size: int, frames: int) -> NDArray[np.bool_]:
    """True where masked: a frame starts a span of 10 with probability 0.08; spans may overlap."""
    starts = rng.random((size, frames)) < MASK_START
    starts[:, 0] |= ~starts.any(axis=1)
    mask = starts.copy()
    for shift in range(1, MASK_LENGTH):
        mask[:, shift:] |= starts[:, :-shift]
    return mask
