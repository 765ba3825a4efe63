"""What a set of probe clips is: clips of one length, and examples that are frames of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.speech_music.features import HOP, RATE, WINDOW, frame_count

Example = tuple[int, int, int, str, str, bool | None]
"""(clip, first frame, last frame, label, group, test); test None: by cross-validation over groups."""
Clips = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Made:
    """One set of clips and the tasks on it: name -> (title, domain, examples)."""

    clips: Clips
    tasks: dict[str, tuple[str, str, list[Example]]]


def fitted(audio: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """Cut to `seconds`, or filled up with zeros."""
    length = round(seconds * RATE)
    return np.pad(audio[:length], (0, max(0, length - len(audio))))


def whole(clip: int, seconds: float, label: str, group: str, test: bool | None = None) -> Example:
    """An example that is all of a clip."""
    return clip, 0, frame_count(round(seconds * RATE)), label, group, test


def frame_span(start: float, end: float, seconds: float) -> tuple[int, int]:
    """The frames whose centres are in the segment; at least one."""
    frames = frame_count(round(seconds * RATE))
    first, last = (round((second * RATE - WINDOW / 2) / HOP) for second in (start, end))
    first = min(max(first, 0), frames - 1)
    return first, min(max(last, first + 1), frames)
