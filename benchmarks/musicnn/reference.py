"""Runs the graphs that came with the musicnn checkpoints in TensorFlow, for the port to be compared with.

    pip install tensorflow-cpu        # in an environment of its own
    python -m benchmarks.musicnn.reference

The input is `pattern()`, made by a formula; logits are written to `benchmarks/results/musicnn_reference.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parents[1] / "results" / "musicnn_reference.json"
FOLDER = Path(__file__).parents[2] / "data" / "musicnn" / "musicnn"


def pattern(samples: int = 3, frames: int = 187, bands: int = 96) -> np.ndarray:
    """float32 [samples, frames, bands] in the range of log-mel spectrograms, none like another."""
    n, t, f = np.meshgrid(np.arange(samples), np.arange(frames), np.arange(bands), indexing="ij")
    wave = np.sin(0.13 * t * (1 + n)) * np.cos(0.07 * f * (2 + n)) + np.sin(0.011 * t * f)
    return (1.5 + 0.7 * wave).astype(np.float32)


def main() -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    found = {}
    for training in ("MTT", "MSD"):
        prefix = f"{FOLDER}/{training}_musicnn/"
        with tf.Graph().as_default() as graph, v1.Session() as session:
            saver = v1.train.import_meta_graph(f"{prefix}.meta", clear_devices=True)
            saver.restore(session, prefix)
            feeds = {op.outputs[0]: op for op in graph.get_operations() if op.type == "Placeholder"}
            x = next(t for t in feeds if t.dtype == tf.float32 and t.shape.rank == 3)
            logits = next(op for op in graph.get_operations() if op.name.endswith("dense_1/BiasAdd")).outputs[0]
            given = {x: pattern()} | {t: False for t in feeds if t.dtype == tf.bool}
            found[training] = session.run(logits, given).tolist()
    RESULT.write_text(json.dumps({"tensorflow": tf.__version__, "logits": found}) + "\n")


if __name__ == "__main__":
    main()
