"""The page's last sections: how the encoders were trained, how long all of it takes, and what it takes at full size."""

from __future__ import annotations

from typing import Any

from benchmarks.speech_music.markdown import table

FULL_SIZE = """## At full size

    python -m benchmarks.speech_music.full_size

HuBERT's and MERT's weights could not be had. The same code path on two folders of their formats
with random weights, {parameters:,} parameters each, {groups} groups: CPU seconds on {threads} thread, and the peak
memory of the process. The moved B is B: largest relative error {certificate:.0e}. `run.py` and `layers.py`
take the folders of `facebook/hubert-base-ls960` and `m-a-p/MERT-v0-public` as `--a` and `--b`.
"""


ARCHITECTURES = """## The stream cannot turn, in a pre-norm encoder either

    python -m benchmarks.speech_music.architectures

What the residual stream may do, derived with every kind. A stream turns only where nothing acts on its single channels.
HuBERT adds the GELU behind its positional convolution to the stream, pre-norm too, and the convolution's groups tell
blocks of channels apart. So "every kind" permutes the stream of a pre-norm pair, as it does that of a post-norm pair.
"""


def architectures_section(found: list[dict[str, Any]]) -> str:
    """The kinds of the stream's groups, by architecture."""
    rows = [
        [one["title"], "; ".join(f"{g['kind']}, {g['count']} × {g['size']}" for g in one["stream"]) or "none"]
        for one in found
    ]
    return ARCHITECTURES + "\n" + table(("architecture", "the stream's group"), rows)


TRAINING = """## How the encoders were trained

    python -m benchmarks.speech_music.everything --only train

By `benchmarks/speech_music/manifest.json`, from random weights. Accuracy on masked frames, of 128 clusters for each
label stream (speech: MFCC in speech-1 and speech-7, else the teacher's hidden states; music: MFCC, semitones), on the
crops of the steps since the line before and on held-out recordings.
"""
LINES = 4


def training_section(logs: dict[str, list[dict[str, Any]]]) -> str:
    """Each run at LINES steps, evenly spread to the last."""
    rows = []
    for run, log in logs.items():
        for line in (log[(k + 1) * len(log) // LINES - 1] for k in range(LINES)):
            accuracies = (" / ".join(f"{x:.3f}" for x in line[key]) for key in ("accuracy", "heldout_accuracy"))
            rows.append([run, str(line["step"]), *accuracies])
    return TRAINING + "\n" + table(("run", "step", "training", "held out"), rows)


DURATION = """## How long it takes

Minutes of each stage when the command last ran; a stage leaves alone what it finds done. From the shipped encoders on,
the pair "shipped" alone.
"""


def duration_section(times: dict[str, Any]) -> str:
    """A line for each way to begin."""
    stages = ("fetch", "prepare", "train", "merge")
    commands = {"fetch": "`everything`", "merge": "`everything --from merge`"}
    rows = []
    for first, command in commands.items():
        if first in times:
            minutes, processes = times[first]["minutes"], times[first]["processes"]
            cells = (f"{minutes[stage]:.1f}" if stage in minutes else "–" for stage in stages)
            rows.append([command, str(processes), *cells])
    return DURATION + "\n" + table(("command", "processes", *stages), rows)


def full_size_section(data: dict[str, Any]) -> str:
    """Stages with their time and memory."""
    rows = [[one["stage"], f"{one['cpu_seconds']:.1f}", f"{one['peak_mb']:,}"] for one in data["stages"]]
    return FULL_SIZE.format(**data) + "\n" + table(("stage", "CPU seconds", "peak, MB"), rows)
