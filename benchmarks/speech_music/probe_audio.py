"""The audio and the labels of the experiment's probes, none of it in any encoder's pretraining.

    python -m benchmarks.speech_music.probe_audio

Writes ``data/prepared/probes/<set>.npy`` (int16, clips of one length) and ``tasks.json``. An example is (clip, first
frame, last frame, label, group, test): test examples share no group with those that a probe is fitted on, and
intervals are made by drawing groups. Where `test` is null, every example is tested, by a probe fitted on other groups.
`tasks.json` holds the SHA-256 of every set. Which tasks count is decided by the encoders: `scoring.counting`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.speech_music.features import RATE
from benchmarks.speech_music.fetch import DATA
from benchmarks.speech_music.probe_music import beats, chords, notes, soundtracks
from benchmarks.speech_music.probe_speech import digits, mandarin, phones, speakers

FOLDER = DATA / "prepared" / "probes"
SETS = {
    "phones": phones,
    "mandarin": mandarin,
    "speakers": speakers,
    "digits": digits,
    "notes": notes,
    "chords": chords,
    "beats": beats,
    "soundtracks": soundtracks,
}


def write(folder: Path = FOLDER) -> Iterator[tuple[str, float]]:
    """Write every set that is not there; (set, minutes) as they are done."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "tasks.json"
    described = json.loads(index.read_text()) if index.exists() else {}
    for name, make in SETS.items():
        if name not in described:
            made = make()
            clips = (np.stack(made.clips).clip(-1, 1) * 32767).astype(np.int16)
            np.save(folder / f"{name}.npy", clips)
            tasks = {
                task: dict(zip(("title", "domain", "examples"), fields, strict=True))
                for task, fields in made.tasks.items()
            }
            described[name] = {"sha256": hashlib.sha256(clips.tobytes()).hexdigest(), "tasks": tasks}
            index.write_text(json.dumps(described, ensure_ascii=False) + "\n")
        yield name, np.load(folder / f"{name}.npy", mmap_mode="r").size / RATE / 60


def main() -> None:
    for name, minutes in write():
        print(f"{name:12s} {minutes:5.1f} min", flush=True)


if __name__ == "__main__":
    main()
