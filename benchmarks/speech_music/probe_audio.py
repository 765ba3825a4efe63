"""The audio and the labels of the experiment's probes, none of it in any encoder's pretraining.

    python -m benchmarks.speech_music.probe_audio

Writes ``data/prepared/probes/<set>.npy`` (int16, clips of one length) and ``tasks.json``. An example is (clip, first
frame, last frame, label, group, test): test examples share no group with those that a probe is fitted on, and
intervals are made by drawing groups. `tasks.json` holds the SHA-256 of every set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.speech_music.clips import phone_segments
from benchmarks.speech_music.features import HOP, RATE, WINDOW, frame_count
from benchmarks.speech_music.fetch import DATA, unpack_folder
from benchmarks.speech_music.notes import FAMILIES, PROBE_PROGRAMS, Note, render
from benchmarks.speech_music.recordings import phone_utterances, read_audio, read_part, soundtrack_tracks, spoken_digits

FOLDER = DATA / "prepared" / "probes"
PHONE_UTTERANCES, PHONE_SECONDS, PHONE_CROPS = 30, 4.0, 2
SYLLABLES, SYLLABLE_SECONDS = 400, 0.5
DIGIT_SECONDS = 1.0
CHARACTER_CLIPS, CHARACTER_SECONDS = 24, 1.0
PITCHES, NOTE_SECONDS = range(60, 68), 0.3
CHORD_SECONDS = 0.5
SOUNDTRACK_CROPS, SOUNDTRACK_SECONDS = 24, 1.0
APART = 3.0
INITIALS = "ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙ"

Example = tuple[int, int, int, str, str, bool]
Clips = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Made:
    """One set of clips and the tasks on it: name -> (title, domain, scored, examples)."""

    clips: Clips
    tasks: dict[str, tuple[str, str, bool, list[Example]]]


def fitted(audio: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """Cut to `seconds`, or filled up with zeros."""
    length = round(seconds * RATE)
    return np.pad(audio[:length], (0, max(0, length - len(audio))))


def whole(clip: int, seconds: float, label: str, group: str, test: bool) -> Example:
    """An example that is all of a clip."""
    return clip, 0, frame_count(round(seconds * RATE)), label, group, test


def phones() -> Made:
    """51 Russian phones in crops of 4 s; every third utterance tests."""
    clips: Clips = []
    examples: list[Example] = []
    for index, path in enumerate(phone_utterances()[:PHONE_UTTERANCES]):
        audio = read_audio(path)
        segments = phone_segments(path.parents[1] / "lab" / f"{path.stem}.lab")
        for crop in range(PHONE_CROPS):
            begin = crop * PHONE_SECONDS
            if begin + PHONE_SECONDS > len(audio) / RATE:
                break
            clips.append(fitted(audio[round(begin * RATE) :], PHONE_SECONDS))
            for start, end, phone in segments:
                if begin <= start and end <= begin + PHONE_SECONDS:
                    span = frame_span(start - begin, end - begin, PHONE_SECONDS)
                    examples.append((len(clips) - 1, *span, phone, path.stem, index % 3 == 2))
    return Made(clips, {"phone": ("Russian phones", "speech", True, examples)})


def frame_span(start: float, end: float, seconds: float) -> tuple[int, int]:
    """The frames whose centres lie in the segment; one at least."""
    frames = frame_count(round(seconds * RATE))
    first, last = (round((second * RATE - WINDOW / 2) / HOP) for second in (start, end))
    first = min(max(first, 0), frames - 1)
    return first, min(max(last, first + 1), frames)


def mandarin() -> Made:
    """Initial, final and tone of spoken syllables; half of the syllables, whatever their tone, test."""
    root = unpack_folder("gcin-voice") / "usr/share/gcin-voice/ogg"
    folders = sorted(path.parent for path in root.glob("*/3.ogg"))
    syllables = sorted({folder.name.rstrip("12345") for folder in folders})
    np.random.default_rng(0).shuffle(syllables)
    tested = set(syllables[::2])
    chosen = [folders[k] for k in np.random.default_rng(1).permutation(len(folders))[:SYLLABLES]]
    clips, examples = [], {"initial": [], "final": [], "tone": []}
    for folder in chosen:
        syllable, tone = folder.name.rstrip("12345"), folder.name[-1] if folder.name[-1].isdigit() else "1"
        initial = syllable[0] if syllable[0] in INITIALS else "none"
        final = syllable[initial != "none" :] or "none"
        for task, label in (("initial", initial), ("final", final), ("tone", tone)):
            examples[task].append(whole(len(clips), SYLLABLE_SECONDS, label, syllable, syllable in tested))
        clips.append(fitted(read_audio(folder / "3.ogg"), SYLLABLE_SECONDS))
    titles = {"initial": "Mandarin initials", "final": "Mandarin finals", "tone": "Mandarin tones"}
    return Made(clips, {task: (titles[task], "speech", True, found) for task, found in examples.items()})


def digits() -> Made:
    """0 to 9 in Spanish, French and Italian: fitted on one speaker of each, tested on another whom no encoder heard.

    All with the test recordings' band, to 4 kHz. Not scored: 30 examples would make the interval of the speech score.
    """
    clips: Clips = []
    examples: list[Example] = []
    for language, second, paths in spoken_digits():
        for digit, path in enumerate(paths):
            narrow = soxr.resample(read_audio(path), RATE, RATE // 2)
            audio = soxr.resample(narrow, RATE // 2, RATE)
            frames = frame_count(min(len(audio), round(DIGIT_SECONDS * RATE)))
            examples.append((len(clips), 0, frames, str(digit), f"{language}/{path.stem}/{second}", second))
            clips.append(fitted(audio, DIGIT_SECONDS))
    return Made(clips, {"digit": ("spoken digits, speaker-disjoint", "speech", False, examples)})


def characters() -> Made:
    """Four speakers, two fish in two languages; every third recording tests. A sanity check, not scored."""
    clips: Clips = []
    examples: list[Example] = []
    for language in ("cs", "nl"):
        root = unpack_folder(f"fillets-ng-data-{language}")
        for fish in "mv":
            paths = sorted(root.glob(f"usr/share/games/fillets-ng/sound/*/{language}/*-{fish}-*.ogg"))
            for index, path in enumerate(paths[:: len(paths) // CHARACTER_CLIPS][:CHARACTER_CLIPS]):
                group, label = f"{language}/{path.parts[-3]}/{path.stem}", f"{language} {fish}"
                examples.append(whole(len(clips), CHARACTER_SECONDS, label, group, index % 3 == 2))
                clips.append(fitted(read_audio(path), CHARACTER_SECONDS))
    return Made(clips, {"character": ("4 speakers (sanity)", "speech", False, examples)})


def notes() -> Made:
    """Single notes, 56 programs × 8 pitches × 2 banks: family and pitch from bank to bank, program by pitch."""
    clips: Clips = []
    family: list[Example] = []
    program_, pitch_ = [], []
    for bank in ("fluid-soundfont-gm", "timgm6mb-soundfont"):
        other = bank == "timgm6mb-soundfont"
        for program in track(PROBE_PROGRAMS, description=bank):
            score = [(n * APART, NOTE_SECONDS, pitch) for n, pitch in enumerate(PITCHES)]
            audio = render(program, score, len(PITCHES) * APART, bank).reshape(len(PITCHES), -1)
            for n, pitch in enumerate(PITCHES):
                tail = (f"{program}", other)
                family.append(whole(len(clips), NOTE_SECONDS, FAMILIES[program // 8], *tail))
                pitch_.append(whole(len(clips), NOTE_SECONDS, str(pitch), *tail))
                program_.append(whole(len(clips), NOTE_SECONDS, *(f"{program}",) * 2, n in (2, 5)))
                clips.append(fitted(audio[n], NOTE_SECONDS))
    tasks = {
        "family": ("instrument families, bank to bank", "music", True, family),
        "program": ("56 programs, pitch-disjoint", "music", True, program_),
        "pitch": ("8 pitches, bank to bank", "music", True, pitch_),
    }
    return Made(clips, tasks)


def triad(root: int, minor: bool, rng: np.random.Generator, start: float) -> list[Note]:
    """A major or minor triad on pitch class `root`, its three notes each in a random octave from C3 to B4."""
    pitches = (root + step for step in (0, 3 if minor else 4, 7))
    return [(start, CHORD_SECONDS, 48 + pitch % 12 + 12 * int(rng.integers(0, 2))) for pitch in pitches]


def chords() -> Made:
    """24 triads in random voicings on 14 programs; half of the programs test."""
    clips: Clips = []
    examples: list[Example] = []
    for family in track(range(len(FAMILIES)), description="chords"):
        program, rng = 8 * family + 2, np.random.default_rng(family)
        names = [(root, minor) for root in range(12) for minor in (False, True)]
        score = [note for k, name in enumerate(names) for note in triad(*name, rng, k * APART)]
        audio = render(program, score, len(names) * APART).reshape(len(names), -1)
        for k, (root, minor) in enumerate(names):
            label = f"{root}{'m' if minor else ''}"
            examples.append(whole(len(clips), CHORD_SECONDS, label, f"{program}", family % 2 == 1))
            clips.append(fitted(audio[k], CHORD_SECONDS))
    return Made(clips, {"chord": ("24 chords, program-disjoint", "music", True, examples)})


def soundtracks() -> Made:
    """Which game a crop is from; crops of half of the tracks test."""
    clips: Clips = []
    examples: list[Example] = []
    for game, tracks in track(soundtrack_tracks().items(), description="soundtracks"):
        for test in (False, True):
            side = tracks[test::2]
            for k in range(SOUNDTRACK_CROPS // 2):
                path, turn = side[k % len(side)], k // len(side)
                share = (turn + 1) / (SOUNDTRACK_CROPS // 2 // len(side) + 2)
                examples.append(whole(len(clips), SOUNDTRACK_SECONDS, game, f"{game}/{path.stem}", test))
                clips.append(fitted(read_part(path, share, SOUNDTRACK_SECONDS), SOUNDTRACK_SECONDS))
    return Made(clips, {"soundtrack": ("soundtracks, track-disjoint", "music", True, examples)})


SETS = {
    "phones": phones,
    "mandarin": mandarin,
    "characters": characters,
    "notes": notes,
    "chords": chords,
    "soundtracks": soundtracks,
    "digits": digits,
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
                task: dict(zip(("title", "domain", "scored", "examples"), fields, strict=True))
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
