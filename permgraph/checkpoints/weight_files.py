"""Reads one file of weights, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from permgraph.checkpoints.open_file import OpenFile
from permgraph.checkpoints.pickled_files import read_pickled
from permgraph.checkpoints.safetensors_files import read_safetensors
from permgraph.checkpoints.stored import WeightFile
from permgraph.errors import CheckpointError

READERS: dict[str, Callable[[OpenFile], WeightFile]] = {
    ".safetensors": read_safetensors,
    ".bin": read_pickled,
    ".pt": read_pickled,
    ".pth": read_pickled,
    ".ckpt": read_pickled,
}
"""Ending of a file's name -> how it is read; a file of another name may be PyTorch's."""
OTHERS = {
    ".gguf": "GGUF, a quantized format of llama.cpp. Give the checkpoint that it was converted from",
    ".ggml": "GGML, a quantized format of llama.cpp. Give the checkpoint that it was converted from",
    ".onnx": "ONNX. Give the checkpoint that it was exported from",
    ".h5": "a TensorFlow or Keras file. Load it in transformers with from_tf=True, and save it",
    ".msgpack": "a Flax file. Load it in transformers with from_flax=True, and save it",
    ".npz": "NumPy's. Save its arrays with safetensors.torch.save_file",
    ".tflite": "TensorFlow Lite. Give the checkpoint that it was converted from",
    ".pt2": "an exported program. Give the checkpoint of the model that was exported",
}
"""Formats of weights that are known and not read, and what to do instead."""


def read_weights(path: Path) -> WeightFile:
    """The tensors in a file, none of them read yet where the format allows.

    Raises CheckpointError naming the file where it is absent, damaged, of another format, or asks to run code.
    """
    refuse_format(path)
    return READERS.get(path.suffix, read_pickled)(OpenFile(path))


def refuse_format(path: Path) -> None:
    """Raise CheckpointError for a file of a format that is known and not read."""
    if path.suffix.lower() in OTHERS:
        raise CheckpointError(f"{path}: is {OTHERS[path.suffix.lower()]}.")
