"""Frame features of 16 kHz audio and their clusters: the targets that the encoders predict.

Frames are HuBERT's own: 400 samples (25 ms) every 320 (20 ms), no padding, so that frame t of a
feature and frame t of the encoder see the same samples. Audio is a float array in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from scipy.fft import dct

RATE = 16000
HOP = 320
WINDOW = 400
PITCH_WINDOW = 4096
BLOCK = 500
CLUSTERS = 128
SEMITONES = 60
TIMBRE = 19
SPECTRUM = SEMITONES + TIMBRE

Floats = NDArray[np.float32]


def frame_count(samples: int) -> int:
    """floor((samples - 400) / 320) + 1: the frames that HuBERT's seven strides leave."""
    return (samples - WINDOW) // HOP + 1


def power_frames(audio: Floats, window: int) -> Iterator[Floats]:
    """Blocks (frames, bins) of |FFT|²: Hann windows centred where HuBERT's frames are."""
    side = (window - WINDOW) // 2
    padded = np.pad(audio, (side, side + HOP))
    views = np.lib.stride_tricks.sliding_window_view(padded, window)[::HOP]
    views = views[: frame_count(len(audio))]
    taper = np.hanning(window).astype(np.float32)
    for start in range(0, len(views), BLOCK):
        spectrum = np.fft.rfft(views[start : start + BLOCK] * taper)
        yield (spectrum.real**2 + spectrum.imag**2).astype(np.float32)


def triangles(centres: Floats, window: int) -> Floats:
    """Filters (bins, len(centres) - 2): rise from each centre (Hz) to the next, fall to the third."""
    hertz = np.arange(window // 2 + 1)[:, None] * RATE / window
    low, peak, high = centres[:-2], centres[1:-1], centres[2:]
    rise, fall = (hertz - low) / (peak - low), (high - hertz) / (high - peak)
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


def log_mel(audio: Floats, bands: int = 40) -> Floats:
    """log(mel energy + 1e-6), (frames, bands); mel(f) = 2595 log10(1 + f / 700), 20 Hz to 8 kHz."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (20, RATE / 2))
    mels = np.linspace(low, high, bands + 2)
    filters = triangles(700 * (10 ** (mels / 2595) - 1), WINDOW)
    return np.concatenate([np.log(block @ filters + 1e-6) for block in power_frames(audio, WINDOW)])


def cepstrum(audio: Floats, coefficients: int) -> Floats:
    """The cosine transform of the log-mel spectrum, (frames, coefficients); the first is the energy."""
    return dct(log_mel(audio), norm="ortho")[:, :coefficients].astype(np.float32)


def mfcc(audio: Floats) -> Floats:
    """13 cepstral coefficients with their first and second differences: (frames, 39)."""
    base = cepstrum(audio, 13)
    first = np.gradient(base, axis=0)
    return np.concatenate([base, first, np.gradient(first, axis=0)], axis=1)


def timbre(audio: Floats) -> Floats:
    """Cepstral coefficients 2 to 20, (frames, 19): without the energy, which the encoder cannot hear.

    Clips are scaled to variance 1 before the encoder, and its first group norm scales them again.
    """
    return cepstrum(audio, 1 + TIMBRE)[:, 1:]


def semitones(audio: Floats, lowest: int = 36, count: int = SEMITONES) -> Floats:
    """Which notes sound: √energy in `count` semitone bands from MIDI `lowest`, scaled to length 1.

    (frames, count). Windows of 4096 samples (256 ms), because 25 ms does not part neighbouring semitones.
    """
    centres = 440 * 2 ** ((np.arange(lowest - 1, lowest + count + 1) - 69) / 12)
    filters = triangles(centres, PITCH_WINDOW)
    bands = np.concatenate([np.sqrt(b @ filters) for b in power_frames(audio, PITCH_WINDOW)])
    return bands / (np.linalg.norm(bands, axis=1, keepdims=True) + 1e-3)


def spectrum(audio: Floats) -> Floats:
    """`semitones` beside `timbre` scaled to length 1, (frames, `SPECTRUM`): neither changes with loudness."""
    colour = timbre(audio)
    return np.concatenate([semitones(audio), colour / (np.linalg.norm(colour, axis=1, keepdims=True) + 1e-3)], axis=1)


def standardised(values: Floats) -> Floats:
    """Each column with mean 0 and variance 1."""
    return (values - values.mean(0)) / (values.std(0) + 1e-6)


def clusters(values: Floats, seed: int, sample: int = 40000) -> NDArray[np.uint8]:
    """The k-means cluster (of 128) of every row; the centres are fitted on `sample` random rows."""
    rng = np.random.default_rng(seed)
    rows = values[rng.choice(len(values), min(sample, len(values)), replace=False)]
    centres, _ = kmeans2(rows, CLUSTERS, iter=15, minit="++", rng=rng)
    return vq(values, centres)[0].astype(np.uint8)


def unscaled(values: Floats) -> Floats:
    """As they are."""
    return values


Teacher = tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]


def teachers(domain: str) -> tuple[Teacher, ...]:
    """(feature of audio, scaling of all its rows) for each label stream.

    HuBERT's first teacher is the MFCC; MERT's with k-means (arXiv 2306.00107, section 3.2) are a log-mel spectrum and
    the chroma, so music has two label streams: the MFCC, and the semitones that sound.
    """
    acoustic = (mfcc, standardised)
    return (acoustic,) if domain == "speech" else (acoustic, (semitones, unscaled))
