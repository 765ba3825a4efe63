"""The audio that ships with the demo: calibration clips and the labelled clips of the probes.

None of it was in pretraining: calibration comes from the held-out split, the phone probe from the
utterances set aside by `prepare`, the note probes from General MIDI programs that pretraining left out.
Labels are seconds from the start of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.speech_music.export import ASSETS
from benchmarks.speech_music.features import RATE
from benchmarks.speech_music.fetch import DATA, unpack_folder
from benchmarks.speech_music.notes import FAMILIES, PROBE_PROGRAMS, render

CLIPS = ASSETS / "clips"
CLIP_SECONDS = 6
PHONE_UTTERANCES = 36
NOTE_SECONDS = 0.5
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
LOWEST_PITCH = 60

Example = dict[str, str | float]


def write_clip(path: Path, audio: NDArray[np.float32]) -> None:
    """`audio` as Ogg Vorbis, 16 kHz mono, scaled down where its peak is above 0.9."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = audio * np.float32(0.9 / max(0.9, np.abs(audio).max()))
    soundfile.write(path, scaled, RATE, format="OGG", subtype="VORBIS", compression_level=0.8)


def heldout_clips(domain: str) -> list[tuple[str, str, NDArray[np.float32]]]:
    """(source, path, audio) of each clip of the held-out split."""
    folder = DATA / "prepared" / domain
    stream = np.load(folder / "heldout.npy", mmap_mode="r")
    manifest = json.loads((folder / "manifest.json").read_text())
    return [
        (
            clip["source"],
            clip["path"],
            stream[clip["offset"] :][: clip["samples"]] / np.float32(32768),
        )
        for clip in manifest
        if clip["split"] == "heldout"
    ]


def speech_calibration() -> Iterable[tuple[str, NDArray[np.float32]]]:
    """(name, 6 s): per package, two clips of held-out recordings laid end to end."""
    by_source: dict[str, list[NDArray[np.float32]]] = {}
    for source, _, audio in heldout_clips("speech"):
        by_source.setdefault(source, []).append(audio)
    length = CLIP_SECONDS * RATE
    for source, pieces in by_source.items():
        joined = np.concatenate(pieces)
        for number in range(2):
            yield f"speech-{source}-{number + 1}", joined[number * length :][:length]


def music_calibration() -> Iterable[tuple[str, NDArray[np.float32]]]:
    """(name, 6 s): per held-out recording, the clips a quarter and (for tracks) three quarters in."""
    for source, path, audio in heldout_clips("music"):
        quarters = (1,) if source == "fluid-soundfont-gm" else (1, 3)
        for quarter in quarters:
            start = len(audio) * quarter // 4
            name = f"music-{source}-{Path(path).stem}-{quarter}".replace(" ", "-").lower()
            yield name, audio[start : start + CLIP_SECONDS * RATE]


def phone_segments(labels: Path) -> list[tuple[float, float, str]]:
    """(start, end, phone) of a Festival label file, silences left out."""
    segments, start = [], 0.0
    for line in labels.read_text().splitlines():
        fields = line.split()
        if len(fields) == 3:
            end, phone = float(fields[0]), fields[2]
            if phone not in ("pau", "ssil"):
                segments.append((start, end, phone))
            start = end
    return segments


def phone_probe() -> list[Example]:
    """Write the probe utterances; one example for each phone, every fourth utterance for testing."""
    manifest = json.loads((DATA / "prepared" / "speech" / "manifest.json").read_text())
    paths = [clip["path"] for clip in manifest if clip["split"] == "probe"][:PHONE_UTTERANCES]
    examples: list[Example] = []
    for index, relative in enumerate(paths):
        recording = unpack_folder("festvox-ru") / relative
        audio, _ = soundfile.read(recording, dtype="float32")
        name = f"phones/{recording.stem}.ogg"
        write_clip(CLIPS / "probes" / name, audio)
        split = "test" if index % 4 == 3 else "train"
        labels = recording.parents[1] / "lab" / f"{recording.stem}.lab"
        for start, end, phone in phone_segments(labels):
            examples.append(example(name, start, min(end, len(audio) / RATE), phone, split))
    return examples


def example(file: str, start: float, end: float, label: str, split: str) -> Example:
    """One labelled segment, in the order in which `labels.json` lists its fields."""
    times = {"start": round(start, 4), "end": round(end, 4)}
    return {"file": file, **times, "label": label, "split": split}


def octave(program: int) -> NDArray[np.float32]:
    """C4 to B4 on `program`, 0.5 s from the start of each; 3 s apart, so that none rings into the next."""
    apart = 3.0
    notes = [(n * apart, NOTE_SECONDS, LOWEST_PITCH + n) for n in range(12)]
    audio = render(program, notes, 12 * apart)
    return audio.reshape(12, -1)[:, : round(NOTE_SECONDS * RATE)].ravel()


def note_probes() -> dict[str, list[Example]]:
    """Write twelve notes for each probe program, C4 to B4; return the examples of "family" and "pitch".

    Family is tested on the semitones of odd number, pitch on the second half of each family's programs.
    """
    examples: dict[str, list[Example]] = {"family": [], "pitch": []}
    for program in PROBE_PROGRAMS:
        name = f"notes/program-{program:03d}.ogg"
        write_clip(CLIPS / "probes" / name, octave(program))
        for semitone, pitch in enumerate(NOTE_NAMES):
            span = (semitone * NOTE_SECONDS, (semitone + 1) * NOTE_SECONDS)
            by_pitch = "test" if semitone % 2 else "train"
            by_program = "test" if program % 8 >= 4 else "train"
            examples["family"].append(example(name, *span, FAMILIES[program // 8], by_pitch))
            examples["pitch"].append(example(name, *span, pitch, by_program))
    return examples


def write_labels() -> None:
    """`labels.json`: for each probe its domain, what the encoder hears at once, and the examples."""
    notes = note_probes()
    probes = {
        "phone": described("Russian phones", "speech", "file", phone_probe()),
        "family": described("instrument families", "music", "segment", notes["family"]),
        "pitch": described("pitches of an octave", "music", "segment", notes["pitch"]),
    }
    path = CLIPS / "probes" / "labels.json"
    path.write_text(json.dumps(probes, separators=(",", ":")) + "\n")


def described(title: str, domain: str, context: str, examples: list[Example]) -> dict[str, object]:
    """One probe of `labels.json`; an example is [file, start, end, label, split]."""
    rows = [list(row.values()) for row in examples]
    return {"title": title, "domain": domain, "context": context, "examples": rows}


def main() -> None:
    for name, audio in (*speech_calibration(), *music_calibration()):
        write_clip(CLIPS / "calibration" / f"{name}.ogg", audio)
    write_labels()


if __name__ == "__main__":
    main()
