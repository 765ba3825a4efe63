"""Merges two vision transformers that were trained apart, and keeps what both can do: python docs/examples/two_vits.py

Two ViTs of 140,000 parameters, trained on Fashion-MNIST from different seeds, are in `vits` as ordinary checkpoints,
with a few images: some without labels to learn from, and others to judge by.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import permgraph as pg

FOLDER = Path(__file__).parent / "vits"
MEAN, DEVIATION = 0.286, 0.353
BATCH = 64
STEPS = 150


def images() -> tuple[list[dict[str, Tensor]], Tensor, Tensor]:
    """Unlabelled batches, and images and labels held out."""
    found = np.load(FOLDER / "images.npz")
    unlabelled, held_out = (
        (torch.from_numpy(found[name]).float() / 255 - MEAN) / DEVIATION for name in ("unlabelled", "held_out")
    )
    batches = [{"pixel_values": batch} for batch in unlabelled.split(BATCH)]
    return batches, held_out, torch.from_numpy(found["labels"])


def judged(model: nn.Module, state: Mapping[str, Tensor], x: Tensor, y: Tensor) -> str:
    """Loss and accuracy of a state dict."""
    own: Any = copy.deepcopy(model)
    own.load_state_dict(state)
    with torch.no_grad():
        logits = own(pixel_values=x).logits
    loss, accuracy = nn.functional.cross_entropy(logits, y), (logits.argmax(-1) == y).float().mean()
    return f"{loss:9.3f}{accuracy:8.1%}"


def lines(steps: int) -> Iterator[str]:
    """A, and a line for each way to move B: what B does then, and what the merge half way does."""
    a, b = pg.load(str(FOLDER / "a")), pg.load(str(FOLDER / "b"))
    batches, x, y = images()
    learned = {"kinds": "all", "method": "learned", "steps": steps}
    ways: dict[str, Any] = {
        "permutations": {},
        "all kinds": {"kinds": "all"},
        "all kinds, learned without data": learned | {"data": pg.synthetic([a, b], batch_size=BATCH)},
        f"all kinds, learned on {sum(len(batch['pixel_values']) for batch in batches)} images": learned
        | {"data": batches},
    }
    yield f"loss and accuracy of A:{'':14}{judged(a.model, a.model.state_dict(), x, y)}"
    yield f"{'B moved by':36}{'B, moved':>17}{'(A + B) / 2':>17}"
    plain = judged(b.model, b.model.state_dict(), x, y), judged(a.model, pg.merge(a.model, b.model), x, y)
    yield f"{'nothing':36}{plain[0]}{plain[1]}"
    for name, how in ways.items():
        moved = pg.align(a.model, b.model, args=a.args, kwargs=a.kwargs, **how)
        merged = pg.merge(a.model, b.model, alignment=moved)
        yield f"{name:36}{judged(a.model, moved.state_dict, x, y)}{judged(a.model, merged, x, y)}"
    yield f"B, moved last: {moved.certificate}"


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="of learning, on unlabelled images")
    torch.set_num_threads(1)  # the last digits depend on it
    for line in lines(parser.parse_args().steps):
        print(line, flush=True)


if __name__ == "__main__":
    main()
