"""Runs the graphs of the checkpoints of musicnn and its VGG in TensorFlow, for the port to be compared with.

    pip install tensorflow-cpu        # in an environment of its own
    python -m benchmarks.musicnn.reference

The input is `pattern()`, made by a formula; logits are written to `benchmarks/results/musicnn_reference.json`, by
architecture and training.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parents[1] / "results" / "musicnn_reference.json"
FOLDER = Path(__file__).parents[2] / "data" / "musicnn" / "musicnn"


def pattern(samples: int = 3, frames: int = 187, bands: int = 96) -> np.ndarray:
    """float32 [samples, frames, bands] in the range of log-mel spectrograms, none like another."""
    n, t, f = np.meshgrid(np.arange(samples), np.arange(frames), np.arange(bands), indexing="ij")
    wave = np.sin(0.13 * t * (1 + n)) * np.cos(0.07 * f * (2 + n)) + np.sin(0.011 * t * f)
    return (1.5 + 0.7 * wave).astype(np.float32)


LOGITS = {"musicnn": "model/dense_1/BiasAdd", "vgg": "model/dense/BiasAdd"}


def forward_graph(tf: Any, meta: Path, logits: str) -> Any:
    """What of a graph leads to the logits: training nodes carry shapes that today's TensorFlow refuses."""
    definition = tf.compat.v1.MetaGraphDef()
    definition.ParseFromString(meta.read_bytes())
    return tf.compat.v1.graph_util.extract_sub_graph(definition.graph_def, [logits])


def main() -> None:
    import tensorflow as tf

    found: dict[str, dict[str, Any]] = {architecture: {} for architecture in LOGITS}
    for architecture, training in product(LOGITS, ("MTT", "MSD")):
        folder = FOLDER / f"{training}_{architecture}"
        graph_def = forward_graph(tf, folder / ".meta", LOGITS[architecture])
        with tempfile.TemporaryDirectory() as copy:  # TensorFlow does not find a checkpoint without a name
            for kind in (".index", ".data-00000-of-00001"):
                shutil.copy(folder / kind, Path(copy) / f"model{kind}")
            reader = tf.train.load_checkpoint(f"{copy}/model")
            weights = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
        with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
            tf.import_graph_def(graph_def, name="")
            given = {}
            for op in graph.get_operations():
                if op.type == "Placeholder":
                    is_input = op.outputs[0].dtype == tf.float32 and op.outputs[0].shape.rank == 3
                    given[op.outputs[0]] = pattern() if is_input else False
                elif op.type == "VariableV2":
                    given[graph.get_tensor_by_name(f"{op.name}/read:0")] = weights[op.name]
            logits = graph.get_tensor_by_name(f"{LOGITS[architecture]}:0")
            found[architecture][training] = session.run(logits, given).tolist()
    RESULT.write_text(json.dumps({"tensorflow": tf.__version__, "logits": found}) + "\n")


if __name__ == "__main__":
    main()
