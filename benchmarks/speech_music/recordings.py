"""Reads the packages' recordings as 16 kHz mono, and says which of them belong to which split.

A recording is "train", "heldout" (calibration, and the loss of training) or "probe" (in no stream). What the probes
are made of is set aside in every corpus, so that no encoder has heard it.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from benchmarks.speech_music.features import RATE
from benchmarks.speech_music.fetch import DATA, unpack_folder

Audio = NDArray[np.float32]
AUDIO = {".wav", ".ogg", ".opus", ".mp3", ".flac", ".g722", ".gsm", ".oga"}
BY_FFMPEG = {".g722", ".gsm"}
TOGETHER = 40
SOUNDTRACKS = {
    "warzone2100-music": "warzone", "wesnoth-1.16-music": "wesnoth", "nexuiz-music": "nexuiz",
    "planetblupi-music-ogg": "planetblupi", "drascula-music": "drascula", "hyperrogue-music": "hyperrogue",
    "fretsonfire-songs-muldjord": "muldjord", "fretsonfire-songs-sectoid": "sectoid",
}  # fmt: skip
"""The classes of the soundtrack probe."""
LEAST_SECONDS = 15.0
SECOND_SPEAKERS = {
    "es": "asterisk-prompt-es-co", "fr": "asterisk-prompt-fr-armelle", "it": "asterisk-prompt-it-menardi-wav",
}  # fmt: skip
"""Language -> who speaks asterisk's prompts beside the speaker of its core sounds."""


def folder_of(domain: str | None = None, corpus: str = "shipped") -> Path:
    """Where `prepare` writes the streams of a domain; without one, where the packages are unpacked."""
    if domain is None:
        return DATA / "unpacked"
    return DATA / "prepared" / (domain if corpus == "shipped" else f"{domain}-{corpus}")


def mono16k(audio: Audio, rate: int) -> Audio:
    """`audio`, (samples,) or (samples, channels), averaged over channels and resampled to 16 kHz."""
    audio = audio if audio.ndim == 1 else audio.mean(axis=1)
    return audio if rate == RATE else soxr.resample(audio, rate, RATE)


def read_audio(path: Path) -> Audio:
    """The file as 16 kHz mono; G.722 and GSM through ffmpeg, the rest through libsndfile."""
    if path.suffix in BY_FFMPEG:
        return by_ffmpeg([path])[0]
    return mono16k(*soundfile.read(path, dtype="float32"))


def by_ffmpeg(paths: Sequence[Path]) -> list[Audio]:
    """Several files by one process: starting it costs more than decoding a prompt.

    The suffix is the format: of a file of a few frames ffmpeg cannot tell it.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs = [part for path in paths for part in ("-f", path.suffix[1:], "-i", str(path))]
        made = [Path(folder, f"{k}.raw") for k in range(len(paths))]
        form = ["-f", "f32le", "-ac", "1", "-ar", str(RATE)]
        outputs = [part for k, path in enumerate(made) for part in ("-map", f"{k}:a", *form, str(path))]
        subprocess.run(["ffmpeg", "-v", "error", *inputs, *outputs], check=True, capture_output=True)
        return [np.fromfile(path, np.float32) for path in made]


def read_part(path: Path, share: float, seconds: float) -> Audio:
    """`seconds` from `share` of the way through the file."""
    with soundfile.SoundFile(path) as file:
        file.seek(int(share * file.frames))
        return mono16k(file.read(round(seconds * file.samplerate), dtype="float32"), file.samplerate)


def audio_files(package: str) -> list[Path]:
    """The package's recordings, in the order of their paths; archives are unpacked once."""
    folder = unpack_folder(package)
    for archive in folder.rglob("*.pk3"):
        inside = unpack_folder(f"{package}-tracks")
        if not inside.exists():
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(inside)
        folder = inside
    return sorted(path for path in folder.rglob("*") if path.suffix in AUDIO and "/silence/" not in str(path))


def phone_utterances() -> list[Path]:
    """Every 12th festvox-ru utterance: the phone probe's."""
    return [path for index, path in enumerate(audio_files("festvox-ru")) if index % 12 == 0]


def soundtrack_tracks() -> dict[str, list[Path]]:
    """Game -> its tracks set aside for the soundtrack probe: every third, of 15 s at least; of few, all."""
    found = {}
    for package, game in SOUNDTRACKS.items():
        long = [p for p in audio_files(package) if soundfile.info(p).duration >= LEAST_SECONDS]
        found[game] = long[::3] if len(long) > 12 else long
    return found


def spoken_digits() -> Iterator[tuple[str, bool, list[Path]]]:
    """(language, second speaker?, recordings of 0 to 9): the second speakers test the digit probe."""
    for language, second in SECOND_SPEAKERS.items():
        for package, is_second in ((f"asterisk-core-sounds-{language}-g722", False), (second, True)):
            by_name = {path.stem: path for path in audio_files(package) if path.parent.name == "digits"}
            yield language, is_second, [by_name[str(digit)] for digit in range(10)]


def set_aside() -> set[Path]:
    """The recordings that probes are made of."""
    characters = (p for language in ("cs", "nl") for p in audio_files(f"fillets-ng-data-{language}"))
    tracks = (path for paths in soundtrack_tracks().values() for path in paths)
    digits = (path for _, second, paths in spoken_digits() if second for path in paths)
    return {*phone_utterances(), *digits, *(p for p in characters if p.stem.split("-")[1:2] in (["m"], ["v"])), *tracks}


def queen_recordings() -> Iterator[tuple[str, Audio]]:
    """(name, audio) of the speech inside `queen.1c`: "QTBL", a table of (12-byte name, bundle, offset, size), MP3s."""
    path = next(unpack_folder("flight-of-the-amazon-queen").rglob("queen.1c"))
    data = path.read_bytes()
    if data[:4] != b"QTBL":
        raise ValueError(f"{path} is not a rebuilt archive of ScummVM's")
    (count,) = struct.unpack_from(">H", data, 13)
    for k in range(count):
        name, _, offset, size = struct.unpack_from(">12sBII", data, 15 + 21 * k)
        if name.rstrip(b"\0 ").endswith(b".SB"):
            with tempfile.NamedTemporaryFile(suffix=".mp3") as file:
                file.write(data[offset : offset + size])
                file.flush()
                yield name.rstrip(b"\0 ").decode(), read_audio(Path(file.name))


def package_recordings(package: str, keep: Callable[[Path], bool]) -> Iterator[tuple[str, Audio]]:
    """(name, audio) of the package's recordings for which `keep(path)`."""
    if package == "flight-of-the-amazon-queen":
        yield from queen_recordings()
        return
    paths = [path for path in audio_files(package) if keep(path)]
    for first in range(0, len(paths), TOGETHER):
        group = paths[first : first + TOGETHER]
        packed = iter(by_ffmpeg([p for p in group if p.suffix in BY_FFMPEG]) if _any_packed(group) else [])
        for path in group:
            audio = next(packed) if path.suffix in BY_FFMPEG else read_audio(path)
            yield str(path.relative_to(folder_of())), audio


def _any_packed(paths: Sequence[Path]) -> bool:
    return any(path.suffix in BY_FFMPEG for path in paths)
