"""Log-mel spectrograms of real music from Debian packages, as musicnn was trained on them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from benchmarks.musicnn.network import DATA, FRAMES, MELS
from benchmarks.speech_music.fetch import fetch

PACKAGES = ("nexuiz-music", "planetblupi-music-ogg", "singularity-music")
RATE, HOP, WINDOW = 16_000, 256, 512
SECONDS = 3.2  # enough for FRAMES frames


def tracks() -> Iterator[tuple[str, bytes]]:
    """Name and contents of every track of more than half a minute, in order; a pk3 is a zip."""
    for package in PACKAGES:
        folder = fetch(package)
        for path in sorted(folder.rglob("*.ogg")):
            yield f"{package}/{path.name}", path.read_bytes()
        for archive in sorted(folder.rglob("*.pk3")):
            with zipfile.ZipFile(archive) as inside:
                for name in sorted(n for n in inside.namelist() if n.endswith(".ogg")):
                    yield f"{package}/{Path(name).name}", inside.read(name)


def spectrogram(samples: np.ndarray) -> Tensor:
    """[FRAMES, MELS]: log10(1 + 10000 · power in mel bands), the power rounded to float16 as in training."""
    filters = mel_filter_bank(WINDOW // 2 + 1, MELS, 0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(
        torch.from_numpy(samples).float(), WINDOW, HOP, window=window, center=False, return_complex=True
    )
    power = spectrum.abs().square().T[:FRAMES] @ torch.from_numpy(filters).float()
    return torch.log10(1 + 10_000 * power.half().float())


def patches(contents: bytes, count: int) -> Tensor:
    """[count, FRAMES, MELS] from places spread evenly over a track."""
    with soundfile.SoundFile(io.BytesIO(contents)) as file:
        length = int(SECONDS * file.samplerate)
        found = []
        for place in np.linspace(0, len(file), count + 2)[1:-1]:
            file.seek(min(int(place), len(file) - length))
            samples = file.read(length, always_2d=True).mean(1)
            found.append(spectrogram(soxr.resample(samples, file.samplerate, RATE)))
    return torch.stack(found)


def music(calibration: int, test: int) -> tuple[Tensor, Tensor]:
    """Spectrograms for calibration and for testing, so many of a track, from tracks of their own; kept in a file."""
    kept = DATA / f"patches-{calibration}-{test}.pt"
    if not kept.exists():
        long = [contents for _, contents in tracks() if soundfile.info(io.BytesIO(contents)).duration > 30]
        sides = (patches(c, test if k % 2 else calibration) for k, c in enumerate(long))
        parts = list(sides)
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save((torch.cat(parts[::2]), torch.cat(parts[1::2])), kept)
    first, second = torch.load(kept, weights_only=True)
    return first, second
