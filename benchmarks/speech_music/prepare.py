"""Unpacked packages to 16 kHz mono streams, cluster targets and a manifest.

Writes, under ``data/prepared/<domain>/``: ``<split>.npy`` (int16 samples, the clips end to end),
``<split>-targets.npy`` (uint8, frames by label streams) and ``manifest.json`` (source, path, split,
offset and length of each clip). Clips whose samples are equal are kept once. The utterances of the
split "probe" are listed in the manifest and enter no stream: the probes are made of them.
Needs `ffmpeg` (for G.722) and `fluidsynth` on the path.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from benchmarks.speech_music.features import HOP, RATE, targets
from benchmarks.speech_music.fetch import DATA, SPEECH_PACKAGES, unpack_folder
from benchmarks.speech_music.notes import PRETRAINING_PROGRAMS, random_phrase, render

Recording = tuple[str, str, str, NDArray[np.float32]]
"""(source, path, split, audio)."""

SPLITS = ("train", "heldout")
PHRASE_SECONDS = 64.0
UFOAI_TRACKS = (
    "Crystan-Battlescape01", "Crystan-Battlescape02", "Crystan-Battlescape03", "Crystan-Battlescape04",
    "Crystan-Battlescape05", "Crystan-Battlescape06", "Crystan-Credits", "Crystan-Geosphere02",
    "Crystan-Geosphere03", "Crystan-Geosphere04", "Crystan-IntroSad", "Crystan-LooseGame", "Crystan-Tutorial",
    "Crystan-WinGame", "Marine01", "Marine02", "MarineAlienRaid", "MarineBacktheAttack", "MarineFireFight",
    "MarineIndustrial", "MarineStrikingIntoTheUnknown", "MarineUrbanWarfare", "TheThings-Slippycurb",
    "returnjourney", "David01", "David02", "David03", "David04", "David05", "azrael1", "karlmacklin_geoscape",
    "van_geoscape", "van_mission", "van_mission2", "van_mission3", "van_mission4", "van_theme",
)  # fmt: skip
"""The tracks that the package's copyright file lists under CC-BY-3.0 or CC-BY-SA-3.0, no others."""


@dataclass(frozen=True)
class Clip:
    """Samples `offset` to `offset + samples` of the stream `split`, from `path` of `source`."""

    source: str
    path: str
    split: str
    offset: int
    samples: int


def mono16k(audio: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """`audio`, (samples,) or (samples, channels), averaged over channels and resampled to 16 kHz."""
    audio = audio if audio.ndim == 1 else audio.mean(axis=1)
    return audio if rate == RATE else soxr.resample(audio, rate, RATE)


def read_audio(path: Path) -> NDArray[np.float32]:
    """The file as 16 kHz mono; G.722 through ffmpeg, the rest through libsndfile."""
    if path.suffix != ".g722":
        return mono16k(*soundfile.read(path, dtype="float32"))
    wanted = ["-f", "f32le", "-ac", "1", "-ar", str(RATE), "-"]
    command = ["ffmpeg", "-v", "error", "-i", str(path), *wanted]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)


def speech_sources() -> Iterator[Recording]:
    """Every 12th festvox-ru utterance goes to the probes, a 20th of all recordings is held out."""
    for package in SPEECH_PACKAGES:
        folder = unpack_folder(package)
        files = sorted(folder.rglob("*.wav")) + sorted(folder.rglob("*.g722"))
        for index, path in enumerate(path for path in files if "/silence/" not in str(path)):
            split = "heldout" if index % 20 == 5 else "train"
            if package == "festvox-ru" and index % 12 == 0:
                split = "probe"
            yield package, str(path.relative_to(folder)), split, read_audio(path)


def ufoai_folder() -> Path:
    """The ufoai-music tracks, taken out of the package's archive once."""
    folder = DATA / "unpacked" / "ufoai-music-tracks"
    if not folder.exists():
        with zipfile.ZipFile(next(unpack_folder("ufoai-music").rglob("0music.pk3"))) as archive:
            archive.extractall(folder)
    return folder


def track_files() -> list[tuple[str, Path]]:
    """(source, file) of every recorded track, sorted by name."""
    singularity = sorted(unpack_folder("singularity-music").rglob("*.ogg"))
    ufoai = sorted(p for p in ufoai_folder().rglob("*.ogg") if p.stem in UFOAI_TRACKS)
    return [("singularity-music", p) for p in singularity] + [("ufoai-music", p) for p in ufoai]


def music_sources() -> Iterator[Recording]:
    """A twelfth of the tracks and a twelfth of the rendered programs are held out."""
    for index, (source, path) in enumerate(track_files()):
        yield source, path.name, "heldout" if index % 12 == 3 else "train", read_audio(path)
    for index, program in enumerate(PRETRAINING_PROGRAMS):
        notes = random_phrase(np.random.default_rng(program), PHRASE_SECONDS)
        audio = render(program, notes, PHRASE_SECONDS)
        split = "heldout" if index % 12 == 3 else "train"
        yield "fluid-soundfont-gm", f"program {program}", split, audio


SOURCES = {"speech": speech_sources, "music": music_sources}


def collect(domain: str) -> tuple[list[Clip], dict[str, NDArray[np.int16]]]:
    """Every clip once, and the stream of each split; clips begin on multiples of 320 samples."""
    clips: list[Clip] = []
    pieces: dict[str, list[NDArray[np.int16]]] = {split: [] for split in SPLITS}
    lengths = dict.fromkeys(SPLITS, 0)
    seen = set[str]()
    for source, path, split, audio in SOURCES[domain]():
        samples = (audio[: len(audio) // HOP * HOP] * 32767).clip(-32767, 32767).astype(np.int16)
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        if digest in seen or not samples.any():
            continue
        seen.add(digest)
        clips.append(Clip(source, path, split, lengths.get(split, 0), len(samples)))
        if split in pieces:
            pieces[split].append(samples)
            lengths[split] += len(samples)
    return clips, {split: np.concatenate(pieces[split]) for split in SPLITS}


def split_targets(domain: str, streams: dict[str, NDArray[np.int16]], seed: int) -> dict[str, NDArray[np.uint8]]:
    """Targets of all splits from one clustering; one row for each hop of 320 samples."""
    joined = np.concatenate([streams[split] for split in SPLITS] + [np.zeros(HOP, np.int16)])
    labels = targets(domain, joined.astype(np.float32) / 32768, seed)
    boundary = len(streams["train"]) // HOP
    return {"train": labels[:boundary], "heldout": labels[boundary:]}


def write_streams(domain: str, folder: Path) -> None:
    """Write the streams and the manifest of `domain`."""
    folder.mkdir(parents=True, exist_ok=True)
    clips, streams = collect(domain)
    for split, samples in streams.items():
        np.save(folder / f"{split}.npy", samples)
    (folder / "manifest.json").write_text(json.dumps([asdict(clip) for clip in clips], indent=1))


def write_targets(domain: str, folder: Path, seed: int = 0) -> None:
    """Cluster the streams in `folder` and write the targets."""
    streams = {split: np.load(folder / f"{split}.npy") for split in SPLITS}
    for split, labels in split_targets(domain, streams, seed).items():
        np.save(folder / f"{split}-targets.npy", labels)
        print(domain, split, f"{len(streams[split]) / RATE / 3600:.2f} h", labels.shape, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domains", nargs="*", default=["speech", "music"])
    parser.add_argument("--targets-only", action="store_true", help="keep the streams, cluster again")
    options = parser.parse_args()
    for domain in options.domains:
        folder = DATA / "prepared" / domain
        if not options.targets_only:
            write_streams(domain, folder)
        write_targets(domain, folder)


if __name__ == "__main__":
    main()
