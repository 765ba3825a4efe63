"""Calibration audio: a folder of recordings as batches of equal shape, without any padding.

It is in the engine's package, not in an adapter's, because every adapter of an audio model needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from permgraph.data.batches import Numbered
from permgraph.errors import CalibrationError, OptionError
from permgraph.requirements import unusable
from permgraph.wording import few, reason

MOST_SECONDS, MOST_RATE, MOST_CHANNELS = 3600, 10_000_000, 1024
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
OTHERS = (".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr")
"""Sound that soundfile does not read."""
SHORTEST = 0.1
"""Seconds of a clip that is filled up with silence, at least."""
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """A segment of one file: `frames` from `start` at the file's `rate`, which become `samples` at the model's rate."""

    path: Path
    rate: int
    start: int
    frames: int
    samples: int


Window = tuple[Piece, ...]


class AudioBatches(Numbered):
    """Batches `{"input_values": float32 [batch_size, seconds * rate]}` of windows cut from a folder's recordings.

    Every window is audio from end to end, so no frame has to be excluded from statistics, and all batches have one
    shape. A clip is cut into whole windows; the remainders of clips, and clips shorter than a window, are joined into
    further windows. Windows are shuffled by `seed`, so that speech and music mix; `limit` keeps the first `limit` of
    them. Windows that do not fill a last batch are dropped; with fewer windows than `batch_size` the batch is smaller.
    A window without signal is replaced by the next one that has some.

    With `short`, if all clips together do not fill a window, each clip is a sample, for an extractor that pads with
    silence. `unit` says what a sample is; `notes` names files without sound and counts windows without signal.

    Files are found recursively, decoded when they are needed, mixed to mono and resampled to `rate`. `normalize` gives
    each window zero mean and unit variance, as `Wav2Vec2FeatureExtractor` does with `do_normalize`.
    Raises CalibrationError for a folder without audio, a file that cannot be read or holds values that are not finite,
    less than one window in all, and silence throughout; the first and the last two when it is made.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        rate: int = 16_000,
        seconds: float = 5.0,
        batch_size: int = 4,
        normalize: bool = True,
        seed: int = 0,
        limit: int | None = None,
        short: bool = False,
    ) -> None:
        if min(rate, seconds, batch_size) <= 0 or round(rate * seconds) < 1 or seconds > MOST_SECONDS:
            raise OptionError(
                f"rate {rate}, seconds {seconds} and batch_size {batch_size} must be above 0, and a window at most "
                f"{MOST_SECONDS} s and at least one sample long"
            )
        self.rate = rate
        self._folder = folder
        self.normalize = normalize
        self._size = round(rate * seconds)
        found = [_whole(path, rate) for path in audio_files(folder)]
        clips = [clip for clip in found if clip.samples]
        self._empty = tuple(f"{clip.path}: holds no sound" for clip in found if not clip.samples)
        self._other = tuple(f"{path}: was not read, convert it to WAV or FLAC" for path in _files(folder, OTHERS))
        self._windows = plan_windows(clips, self._size, rate, seed)[:limit]
        self.unit = f"windows of {seconds:g} s"
        if short and not self._windows:
            self._windows = list[Window]((clip,) for clip in clips if clip.samples >= SHORTEST * rate)[:limit]
            self.unit = f"clips filled up with silence to {seconds:g} s"
        if not self._windows:
            raise _too_little(folder, clips, rate, seconds)
        self._silent: set[int] = set()
        self.batch_size = min(batch_size, len(self._windows))
        self.window(0)  # now rather than after the first forward pass: there is some sound

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the samples, and why."""
        silent = f"{self._folder}: {len(self._silent)} windows without signal were left out" if self._silent else ""
        return tuple(filter(None, (*self._empty, *self._other, silent)))

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._windows) // self.batch_size

    def made(self, number: int) -> dict[str, Tensor]:
        """The batch of this number."""
        rows = [self.window(number * self.batch_size + row) for row in range(self.batch_size)]
        return {"input_values": torch.from_numpy(np.stack(rows))}

    def window(self, number: int) -> Samples:
        """Window `number`, or the first with signal after it (cyclically): float32 [seconds * rate]."""
        for step in range(len(self._windows)):
            here = (number + step) % len(self._windows)
            if here in self._silent:
                continue
            window = np.concatenate([read_piece(piece, self.rate) for piece in self._windows[here]])
            if np.ptp(window) > 0:
                return standardized(window) if self.normalize else window
            self._silent.add(here)
        raise CalibrationError(f"{self._folder}: all recordings are silent (constant). Give recordings with sound.")


def standardized(window: Samples) -> Samples:
    """(x - mean) / sqrt(variance + 1e-7), as `Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm` has it."""
    centred = window - window.mean(dtype=np.float64)
    return np.asarray(centred / np.sqrt(np.mean(centred**2) + 1e-7), dtype=np.float32)


def audio_files(folder: Path | str) -> list[Path]:
    """The audio files in a folder and all below it, by path. Raises CalibrationError where there is none."""
    found = _files(folder, SUFFIXES)
    if not found and (other := [path.name for path in _files(folder, OTHERS)]):
        raise CalibrationError(
            f"{folder}: {few(other)} cannot be read. Convert it to WAV or FLAC, as by `ffmpeg -i FILE FILE.wav`."
        )
    if not found:
        raise CalibrationError(
            f"{folder}: no audio files (looked for {', '.join(SUFFIXES)} here and below). "
            "Give a folder with recordings of what the models should handle."
        )
    return found


def _files(folder: Path | str, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in suffixes and path.is_file())


def plan_windows(clips: list[Piece], size: int, rate: int, seed: int) -> list[Window]:
    """Windows of exactly `size` samples each, shuffled; no sample twice, less than a window left over."""
    generator = np.random.default_rng(seed)
    whole: list[Window] = []
    rests: list[Piece] = []
    for clip in clips:
        rest = clip
        while rest.samples >= size:
            first, rest = _cut(rest, size, rate)
            whole.append((first,))
        rests += [rest] if rest.samples else []
    windows = whole + _joined([rests[i] for i in generator.permutation(len(rests))], size, rate)
    return [windows[i] for i in generator.permutation(len(windows))]


def read_piece(piece: Piece, rate: int) -> Samples:
    """The samples of a piece: mono, float32, at `rate`. Raises CalibrationError naming a file that is not sound."""
    import soundfile
    import soxr

    try:
        frames, _ = soundfile.read(piece.path, piece.frames, piece.start, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(piece.path, reason(error)) from error
    if len(frames) < piece.frames:
        raise _unreadable(piece.path, f"it ends at frame {piece.start + len(frames)}, before its header says")
    if not np.isfinite(frames).all():
        raise CalibrationError(f"{piece.path}: holds samples that are NaN or infinite. Repair or remove this file.")
    mono = frames.mean(axis=1)
    resampled = mono if piece.rate == rate else soxr.resample(mono, piece.rate, rate)
    return np.asarray(resampled[: piece.samples], dtype=np.float32)


def _too_little(folder: Path | str, clips: Sequence[Piece], rate: int, seconds: float) -> CalibrationError:
    held = sum(clip.samples for clip in clips) / rate
    return CalibrationError(
        f"{folder}: {len(clips)} clips hold {held:.2f} s of audio, less than one window ({seconds} s). Add more."
    )


def _whole(path: Path, rate: int) -> Piece:
    try:
        import soundfile
        import soxr  # noqa: F401 - it resamples what is read
    except (ImportError, OSError) as error:  # soundfile without its library raises OSError
        which = getattr(error, "name", None) or "soundfile"
        raise CalibrationError(
            f"{path}: reading audio needs {unusable(which, error, install='permgraph[audio]')}."
        ) from error
    try:
        header = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, reason(error)) from error
    own = int(header.samplerate)
    if not 0 < own <= MOST_RATE or not 0 < header.channels <= MOST_CHANNELS:
        raise _unreadable(path, f"it has {header.channels} channels at {own} Hz")
    return Piece(path, own, 0, int(header.frames), int(header.frames) * rate // own)


def _cut(piece: Piece, samples: int, rate: int) -> tuple[Piece, Piece]:
    """The first `samples` of a piece, and the rest of it."""
    frames = -(-samples * piece.rate // rate)
    left = piece.frames - frames
    rest = replace(piece, start=piece.start + frames, frames=left, samples=left * rate // piece.rate)
    return replace(piece, frames=frames, samples=samples), rest


def _joined(pieces: list[Piece], size: int, rate: int) -> list[Window]:
    windows: list[Window] = []
    window: list[Piece] = []
    for piece in pieces:
        room = size - sum(part.samples for part in window)
        if piece.samples < room:
            window.append(piece)
            continue
        first, rest = _cut(piece, room, rate)
        windows.append((*window, first))
        window = [rest] if rest.samples else []
    return windows


def _unreadable(path: Path, why: str) -> CalibrationError:
    return CalibrationError(f"{path}: cannot be read as audio: {why}. Convert, repair or remove this file.")
