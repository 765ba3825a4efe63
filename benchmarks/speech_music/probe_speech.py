"""The probes of speech: phones, Mandarin initials, finals and tones, speakers, digits."""

from __future__ import annotations

import numpy as np
import soxr

from benchmarks.speech_music.clips import phone_segments
from benchmarks.speech_music.features import RATE, frame_count
from benchmarks.speech_music.fetch import unpack_folder
from benchmarks.speech_music.probe_set import Clips, Example, Made, fitted, frame_span, whole
from benchmarks.speech_music.recordings import phone_utterances, read_audio, spoken_digits

PHONE_SECONDS = 4.0
VOICES, SYLLABLE_SECONDS = (3, 5), 0.5
DIGIT_SECONDS = 1.0
SPEAKER_CLIPS, SPEAKER_SECONDS = 60, 0.3
INITIALS = "ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙ"


def phones() -> Made:
    """51 Russian phones in crops of 4 s, as many as an utterance has."""
    clips: Clips = []
    examples: list[Example] = []
    for path in phone_utterances():
        audio = read_audio(path)
        segments = phone_segments(path.parents[1] / "lab" / f"{path.stem}.lab")
        for begin in np.arange(0, len(audio) / RATE - PHONE_SECONDS, PHONE_SECONDS):
            clips.append(fitted(audio[round(begin * RATE) :], PHONE_SECONDS))
            for start, end, phone in segments:
                if begin <= start and end <= begin + PHONE_SECONDS:
                    span = frame_span(start - begin, end - begin, PHONE_SECONDS)
                    examples.append((len(clips) - 1, *span, phone, path.stem, None))
    return Made(clips, {"phone": ("Russian phones", "speech", examples)})


def mandarin() -> Made:
    """Initial, final and tone of syllables by two voices; a syllable in all its tones and by both is one group."""
    root = unpack_folder("gcin-voice") / "usr/share/gcin-voice/ogg"
    clips, examples = [], {"initial": [], "final": [], "tone": []}
    for path in sorted(path for voice in VOICES for path in root.glob(f"*/{voice}.ogg")):
        name = path.parent.name
        syllable, tone = name.rstrip("12345"), name[-1] if name[-1].isdigit() else "1"
        initial = syllable[0] if syllable[0] in INITIALS else "none"
        final = syllable[initial != "none" :] or "none"
        for task, label in (("initial", initial), ("final", final), ("tone", tone)):
            examples[task].append(whole(len(clips), SYLLABLE_SECONDS, label, syllable))
        clips.append(fitted(read_audio(path), SYLLABLE_SECONDS))
    titles = {"initial": "Mandarin initials", "final": "Mandarin finals", "tone": "Mandarin tones"}
    return Made(clips, {task: (titles[task], "speech", found) for task, found in examples.items()})


def digits() -> Made:
    """0 to 9 in Spanish, French and Italian: fitted on one speaker of each, tested on another whom no encoder heard.

    All with the test recordings' band, to 4 kHz.
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
    return Made(clips, {"digit": ("spoken digits, speaker-disjoint", "speech", examples)})


def speakers() -> Made:
    """Four speakers, two fish in two languages, by 0.3 s from the middle."""
    clips: Clips = []
    examples: list[Example] = []
    for language in ("cs", "nl"):
        root = unpack_folder(f"fillets-ng-data-{language}")
        for fish in "mv":
            paths = sorted(root.glob(f"usr/share/games/fillets-ng/sound/*/{language}/*-{fish}-*.ogg"))
            for path in paths[:: len(paths) // SPEAKER_CLIPS][:SPEAKER_CLIPS]:
                audio = read_audio(path)
                group, label = f"{language}/{path.parts[-3]}/{path.stem}", f"{language} {fish}"
                examples.append(whole(len(clips), SPEAKER_SECONDS, label, group))
                clips.append(fitted(audio[len(audio) // 2 :], SPEAKER_SECONDS))
    return Made(clips, {"speaker": ("4 speakers, from 0.3 s", "speech", examples)})
