"""The probes of music: notes of one and of two voices, chords, beats, soundtracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.speech_music.notes import BANKS, FAMILIES, PROBE_PROGRAMS, Note, render
from benchmarks.speech_music.probe_set import Clips, Example, Made, fitted, whole
from benchmarks.speech_music.recordings import read_part, soundtrack_tracks

PITCHES, NOTE_SECONDS = range(60, 68), 0.3
LOWER, HELD_OUT = range(48, 56), (62, 65)
NOTE_TASKS = {
    "family": "instrument families, bank to bank",
    "program": "56 programs, pitch-disjoint",
    "pitch": "8 pitches, bank to bank",
    "upper": "upper of two voices, bank to bank",
    "lower": "lower of two voices, bank to bank",
}
CHORD_SECONDS = 0.5
SOUNDTRACK_CROPS, SOUNDTRACK_SECONDS = 24, 1.0
APART = 3.0
TEMPI = (60, 80, 100, 120, 150, 180)
BEAT_SECONDS, BEAT_DRAWS = 2.0, 12
KICK, SNARE, HAT = 36, 38, 42
TESTED = "timgm6mb-soundfont"
"""The bank that tests what is fitted on the other."""


def cuts(program: int, scores: list[list[Note]], bank: str, *, drums: bool = False) -> NDArray[np.float32]:
    """(scores, samples): each score played alone, `APART` seconds after the one before it."""
    shifted = [(k * APART + start, *rest) for k, score in enumerate(scores) for start, *rest in score]
    return render(program, shifted, len(scores) * APART, bank, drums=drums).reshape(len(scores), -1)


def notes() -> Made:
    """Single notes and two at once, 56 programs × 8 × 2 banks each; all from bank to bank, but programs by pitch.

    The notes are the same eight in every clip; of two, the upper is one of them and the lower one of eight others.
    """
    clips: Clips = []
    examples: dict[str, list[Example]] = {task: [] for task in NOTE_TASKS}
    for bank in BANKS:
        for program in track(PROBE_PROGRAMS, description=bank):
            below = np.random.default_rng((program, bank == TESTED)).permutation(LOWER).tolist()
            chosen = [*((pitch,) for pitch in PITCHES), *zip(PITCHES, below, strict=True)]
            played = cuts(program, [[(0, NOTE_SECONDS, pitch) for pitch in one] for one in chosen], bank)
            for audio, pitches in zip(played, chosen, strict=True):
                for task, label in note_labels(program, pitches).items():
                    group, test = f"{program}", bank == TESTED
                    test = pitches[0] in HELD_OUT if task == "program" else test
                    examples[task].append(whole(len(clips), NOTE_SECONDS, label, group, test))
                clips.append(fitted(audio, NOTE_SECONDS))
    return Made(clips, {task: (title, "music", examples[task]) for task, title in NOTE_TASKS.items()})


def note_labels(program: int, pitches: tuple[int, ...]) -> dict[str, str]:
    """Task -> label of a clip of one note or of two, the upper first."""
    if len(pitches) == 1:
        return {"family": FAMILIES[program // 8], "program": str(program), "pitch": str(pitches[0])}
    upper, lower = pitches
    return {"upper": str(upper), "lower": str(lower)}


def triad(root: int, minor: bool, rng: np.random.Generator) -> list[Note]:
    """A major or minor triad on pitch class `root`, its three notes each in a random octave from C3 to B4."""
    pitches = (root + step for step in (0, 3 if minor else 4, 7))
    return [(0.0, CHORD_SECONDS, 48 + pitch % 12 + 12 * int(rng.integers(0, 2))) for pitch in pitches]


def chords() -> Made:
    """24 triads in random voicings on 28 programs."""
    clips: Clips = []
    examples: dict[str, list[Example]] = {"chord": [], "root": [], "mode": []}
    for program in track(PROBE_PROGRAMS[1::2], description="chords"):
        rng = np.random.default_rng(program)
        names = [(root, minor) for root in range(12) for minor in (False, True)]
        played = cuts(program, [triad(*name, rng) for name in names], next(iter(BANKS)))
        for audio, (root, minor) in zip(played, names, strict=True):
            labels = {"chord": f"{root}{'m' if minor else ''}", "root": str(root), "mode": str(minor)}
            for task, label in labels.items():
                examples[task].append(whole(len(clips), CHORD_SECONDS, label, f"{program}"))
            clips.append(fitted(audio, CHORD_SECONDS))
    titles = {"chord": "24 chords", "root": "12 roots of chords", "mode": "major or minor"}
    return Made(clips, {task: (f"{titles[task]}, program-disjoint", "music", own) for task, own in examples.items()})


def pattern(tempo: int, rng: np.random.Generator) -> list[Note]:
    """Hats on every eighth; kick or snare on each beat, and now and then between; begun at a random phase."""
    beat = 60 / tempo
    times = np.arange(rng.random() * beat, BEAT_SECONDS, beat / 2)
    drums = [(float(time), HAT) for time in times]
    for k, time in enumerate(times):
        if k % 2 == 0 or rng.random() < 0.2:
            drums.append((float(time), KICK if rng.random() < 0.5 else SNARE))
    return [(time, 0.1, drum) for time, drum in drums]


def beats() -> Made:
    """Six tempi, random patterns on a drum kit: fitted on one bank's kit, tested on the other's."""
    clips: Clips = []
    examples: list[Example] = []
    for bank in BANKS:
        for draw in range(BEAT_DRAWS):
            rng = np.random.default_rng((draw, bank == TESTED))
            played = cuts(0, [pattern(tempo, rng) for tempo in TEMPI], bank, drums=True)
            for audio, tempo in zip(played, TEMPI, strict=True):
                examples.append(whole(len(clips), BEAT_SECONDS, str(tempo), f"{bank}/{draw}", bank == TESTED))
                clips.append(fitted(audio, BEAT_SECONDS))
    return Made(clips, {"tempo": ("6 tempi, bank to bank", "music", examples)})


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
    return Made(clips, {"soundtrack": ("soundtracks, track-disjoint", "music", examples)})
