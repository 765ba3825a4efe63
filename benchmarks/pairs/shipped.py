"""Writes `docs/examples/vits`: the first two ViTs as ordinary checkpoints, and some images of Fashion-MNIST.

python -m benchmarks.pairs.shipped      # after python -m benchmarks.pairs.train vit
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.pairs.data import DEVIATION, MEAN, fashion
from benchmarks.pairs.train import trained

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "vits"
UNLABELLED, HELD_OUT = 512, 500


def main() -> None:
    for seed, name in enumerate("ab"):
        trained("vit", seed).inner.save_pretrained(FOLDER / name)
    data = fashion()
    chosen = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(0))[:UNLABELLED]
    parts = {"unlabelled": data.train_x[chosen], "held_out": data.test_x[:HELD_OUT]}
    pixels = {name: ((x * DEVIATION + MEAN) * 255).round().to(torch.uint8).numpy() for name, x in parts.items()}
    np.savez_compressed(FOLDER / "images.npz", labels=data.test_y[:HELD_OUT].numpy(), **pixels)


if __name__ == "__main__":
    main()
