"""Unpacked packages to 16 kHz mono streams, the teachers' targets and a manifest.

    python -m benchmarks.speech_music.prepare --corpus shipped    # or full

Writes, under ``data/prepared/<domain>/`` (``<domain>-full/``): ``<split>.npy`` (int16 samples, the clips end to end),
``<split>-targets.npy`` (uint8, frames by label streams), and ``manifest.json`` (source, path, split, offset, length
and SHA-256 of each clip). Clips whose samples are equal are kept once. The recordings of the split "probe" are listed
in the manifest and enter no stream: probes are made of them.
Resumable: a package is decoded once, into ``parts/``. Needs `ffmpeg` (for G.722 and GSM) and `fluidsynth` on the path.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.speech_music.features import HOP, RATE, clusters, teachers
from benchmarks.speech_music.notes import PRETRAINING_PROGRAMS, random_phrase, render
from benchmarks.speech_music.packages import CORPORA, of
from benchmarks.speech_music.recordings import Audio, folder_of, package_recordings, set_aside

SPLITS = ("train", "heldout")
PHRASE_SECONDS = 256.0
RENDERED = "fluid-soundfont-gm"
BLOCK_SECONDS = 1200
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
    sha256: str


def rendered() -> Iterator[tuple[str, Audio]]:
    """A random phrase on each program of General MIDI that pretraining may hear."""
    for program in PRETRAINING_PROGRAMS:
        score = random_phrase(np.random.default_rng(program), PHRASE_SECONDS)
        yield f"program {program}", render(program, score, PHRASE_SECONDS)


def recordings(package: str, corpus: str) -> Iterator[tuple[str, Audio]]:
    """(name, audio) of all that pretraining on `corpus` takes from a package."""
    if package == RENDERED:
        return rendered()
    only = UFOAI_TRACKS if (package, corpus) == ("ufoai-music", "shipped") else None
    return package_recordings(package, lambda path: only is None or path.stem in only)


def decoded(package: str, corpus: str, parts: Path) -> tuple[list[Clip], NDArray[np.int16]]:
    """The package's clips, whose split is not yet known, and their samples; decoded once, then read from `parts`."""
    index, stored = parts / f"{package}.json", parts / f"{package}.npy"
    if not index.exists():
        parts.mkdir(parents=True, exist_ok=True)
        clips, pieces, offset = [], [], 0
        for name, audio in track(recordings(package, corpus), description=package, total=None):
            samples = (audio[: len(audio) // HOP * HOP] * 32767).clip(-32767, 32767).astype(np.int16)
            clips.append(Clip(package, name, "", offset, len(samples), hashlib.sha256(samples.tobytes()).hexdigest()))
            pieces.append(samples)
            offset += len(samples)
        np.save(stored, np.concatenate(pieces) if pieces else np.zeros(0, np.int16))
        index.write_text(json.dumps([asdict(clip) for clip in clips]))
    return [Clip(**fields) for fields in json.loads(index.read_text())], np.load(stored, mmap_mode="r")


def split_of(domain: str, clip: Clip, number: int, probes: set[str]) -> str:
    """A 20th of the speech recordings and a 12th of the tracks and of the programs are held out.

    `number` counts within the package (speech), through all tracks, or through the programs.
    """
    if clip.path in probes:
        return "probe"
    held_out = number % 20 == 5 if domain == "speech" else number % 12 == 3
    return "heldout" if held_out else "train"


def collect(domain: str, corpus: str, folder: Path) -> tuple[list[Clip], dict[str, list[NDArray[np.int16]]]]:
    """Every clip once, and the pieces of each split; clips begin on multiples of 320 samples."""
    packages = [package.name for package in of(corpus, domain)] + [RENDERED] * (domain == "music")
    probes = {str(path.relative_to(folder_of())) for path in set_aside()}
    clips: list[Clip] = []
    pieces: dict[str, list[NDArray[np.int16]]] = {split: [] for split in SPLITS}
    lengths = dict.fromkeys((*SPLITS, "probe"), 0)
    seen, number = set[str](), 0
    for package in packages:
        number = 0 if domain == "speech" or package == RENDERED else number
        found, samples = decoded(package, corpus, folder / "parts")
        for clip in found:
            split, number = split_of(domain, clip, number, probes), number + 1
            piece = samples[clip.offset : clip.offset + clip.samples]
            if clip.sha256 in seen or not piece.any():
                continue
            seen.add(clip.sha256)
            clips.append(Clip(clip.source, clip.path, split, lengths[split], clip.samples, clip.sha256))
            lengths[split] += clip.samples
            if split in pieces:
                pieces[split].append(piece)
    return clips, pieces


def write_stream(path: Path, pieces: list[NDArray[np.int16]]) -> NDArray[np.int16]:
    """The pieces end to end in one file, without a second copy in memory."""
    stream = np.lib.format.open_memmap(path, "w+", np.int16, (sum(map(len, pieces)),))
    offset = 0
    for piece in pieces:
        stream[offset : offset + len(piece)] = piece
        offset += len(piece)
    stream.flush()
    return stream


def by_blocks(compute, stream: NDArray[np.int16]) -> NDArray[np.float32]:
    """A feature of a whole stream, 20 minutes at a time; one row for each hop of 320 samples."""
    size, rows = BLOCK_SECONDS * RATE, []
    for first in range(0, len(stream), size):
        block = stream[first : first + size]
        rows.append(compute(np.concatenate([block, np.zeros(HOP, np.int16)]).astype(np.float32) / 32768))
    return np.concatenate(rows)


def write_targets(domain: str, folder: Path, streams: dict[str, NDArray[np.int16]], seed: int = 0) -> None:
    """Targets of all splits from one clustering for each teacher."""
    boundary, columns = len(streams["train"]) // HOP, []
    for teacher, scale in teachers(domain):
        values = np.concatenate([by_blocks(teacher, streams[split]) for split in SPLITS])
        columns.append(clusters(scale(values), seed))
    for split, labels in zip(SPLITS, np.split(np.stack(columns, axis=1), [boundary]), strict=True):
        np.save(folder / f"{split}-targets.npy", labels)
        print(domain, split, f"{len(streams[split]) / RATE / 3600:.2f} h", labels.shape, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="*", default=["speech", "music"])
    parser.add_argument("--corpus", choices=CORPORA, default="shipped")
    parser.add_argument("--skip-done", action="store_true", help="leave domains alone whose targets are there")
    options = parser.parse_args()
    for domain in options.domains:
        folder = folder_of(domain, options.corpus)
        if options.skip_done and (folder / f"{SPLITS[-1]}-targets.npy").exists():
            continue
        clips, pieces = collect(domain, options.corpus, folder)
        streams = {split: write_stream(folder / f"{split}.npy", pieces[split]) for split in SPLITS}
        (folder / "manifest.json").write_text(json.dumps([asdict(clip) for clip in clips], indent=1))
        write_targets(domain, folder, streams)


if __name__ == "__main__":
    main()
