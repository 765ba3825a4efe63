"""Notes and phrases on General MIDI instruments, rendered by `fluidsynth`, by default from the FluidR3 bank (MIT).

A `Note` is (start seconds, length seconds, MIDI pitch). The programs of the probes and those of
pretraining are disjoint.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.speech_music.features import RATE
from benchmarks.speech_music.fetch import unpack_folder

Note = tuple[float, float, int]

FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble",
    "brass", "reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic",
)  # fmt: skip
PROGRAMS = range(8 * len(FAMILIES))
PROBE_PROGRAMS = tuple(p for p in PROGRAMS if p % 2 == 0)
PRETRAINING_PROGRAMS = tuple(p for p in PROGRAMS if p % 2 == 1)
TICKS = 480
DRUMS = 9
"""The MIDI channel on which notes are a kit's drums."""


def _variable_length(value: int) -> bytes:
    """`value` in MIDI's base 128, the high bit set on all bytes but the last."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def midi_file(program: int, notes: list[Note], channel: int = 0) -> bytes:
    """A one-track MIDI file that plays `notes` on `program`; 960 ticks a second, velocity 96."""
    events = [(0, bytes([0xC0 | channel, program]))]
    for start, length, pitch in notes:
        events.append((round(start * 2 * TICKS), bytes([0x90 | channel, pitch, 96])))
        events.append((round((start + length) * 2 * TICKS), bytes([0x80 | channel, pitch, 0])))
    body, now = b"", 0
    for tick, event in sorted(events, key=lambda item: (item[0], item[1][0])):
        body, now = body + _variable_length(tick - now) + event, tick
    body += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
    return header + b"MTrk" + struct.pack(">I", len(body)) + body


BANKS = {"fluid-soundfont-gm": "FluidR3_GM.sf2", "timgm6mb-soundfont": "TimGM6mb.sf2"}


def render(
    program: int, notes: list[Note], seconds: float, package: str = "fluid-soundfont-gm", *, drums: bool = False
) -> NDArray[np.float32]:
    """`seconds` of `notes` on `program`, or on the drum kit `program`, of a bank: 16 kHz mono, peak 0.7, dry."""
    bank = next(unpack_folder(package).rglob(BANKS[package]))
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "notes.mid"), Path(folder, "notes.wav")
        midi.write_bytes(midi_file(program, notes, DRUMS if drums else 0))
        dry = ["-r", str(RATE), "-R", "0", "-C", "0"]
        command = ["fluidsynth", "-niq", *dry, "-F", str(wav), str(bank), str(midi)]
        subprocess.run(command, check=True, capture_output=True)
        audio = soundfile.read(wav, dtype="float32")[0].mean(axis=1)
    samples = int(seconds * RATE)
    audio = np.pad(audio[:samples], (0, max(0, samples - len(audio))))
    return audio * np.float32(0.7 / (np.abs(audio).max() + 1e-6))


def random_phrase(rng: np.random.Generator, seconds: float) -> list[Note]:
    """A random walk over MIDI 36 to 84 in steps of up to a fifth; one note in four is a triad.

    Notes last 0.15 to 1.2 s.
    """
    notes: list[Note] = []
    now, pitch = 0.0, int(rng.integers(48, 73))
    while now < seconds:
        length = float(rng.choice([0.15, 0.3, 0.3, 0.6, 1.2]))
        pitch = int(np.clip(pitch + rng.integers(-7, 8), 36, 84))
        chord = (0, int(rng.integers(3, 5)), 7) if rng.random() < 0.25 else (0,)
        notes += [(now, length * 0.95, pitch + interval) for interval in chord]
        now += length
    return notes
