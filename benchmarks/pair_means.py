"""Rows of pairs of models: their means with intervals, and what the pages on merging call things."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

Row = dict[str, Any]
NAMES = {
    "mlp": "MLP, three hidden layers of 256, Fashion-MNIST",
    "resnet": "ResNet with BatchNorm, widths 16, 32, 64, Fashion-MNIST",
    "vit": "ViT, four layers of 64, Fashion-MNIST",
    "gpt2": "GPT-2, two layers of 64, characters of the Brown corpus",
    "llama": "Llama, two layers of 64, characters of the Brown corpus",
    "bert": "BERT, two layers of 64, masked characters of the Brown corpus",
    "vit-128": "ViT, four layers of 128, Fashion-MNIST",
    "vit-256": "ViT, four layers of 256, Fashion-MNIST",
    "gpt2-64": "GPT-2, two layers of 64 trained for fewer steps, characters of the Brown corpus",
    "gpt2-128": "GPT-2, two layers of 128, characters of the Brown corpus",
    "gpt2-256": "GPT-2, two layers of 256, characters of the Brown corpus",
}
PEERS = ("plain average", "descent from the identity", "rebasin")
WITHOUT_DATA = "linear"
T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}  # Student's t, two sides, by degrees of freedom


def mean_of(rows: Sequence[Row], key: str) -> tuple[float, float | None]:
    """The mean over pairs and half its 95 % interval, by leaving out one model at a time; None below three models.

    Two pairs that share a model are not independent: the jackknife over models (Arvesen, 1969) allows for that.
    """
    values = [row[key] for row in rows]
    mean = sum(values) / len(values)
    models = sorted({model for row in rows for model in row["pair"]})
    count = len(models)
    if count < 3 or len(rows) != count * (count - 1) // 2:
        return mean, None
    left = []
    for model in models:
        kept = [row[key] for row in rows if model not in row["pair"]]
        left.append(sum(kept) / len(kept))
    middle = sum(left) / count
    variance = (count - 1) / count * sum((value - middle) ** 2 for value in left)
    return mean, T_95[count - 1] * sqrt(variance)


def shown(value: tuple[float, float | None], digits: int = 3) -> str:
    """A mean with half its interval."""
    mean, half = value
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def order_of(rows: Sequence[Row], key: str) -> list[str]:
    """The values of a key, in order of first appearance."""
    return list(dict.fromkeys(row[key] for row in rows if key in row))
