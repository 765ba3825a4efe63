"""musicnn and its VGG (Pons and Serra, arXiv 1909.06654) in PyTorch, with the weights of TensorFlow 1 checkpoints.

The wheel `musicnn` (ISC) holds two models of each architecture, trained apart: on MagnaTagATune (MTT) and on the
Million Song Dataset (MSD), each with 50 tags of its own.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.musicnn.tensor_bundle import read

DATA = Path(__file__).parents[2] / "data" / "musicnn"
MELS, FRAMES = 96, 187  # bands, and frames of 16 ms that it was trained on
TEMPORAL = (128, 64, 32)


def normed(channels: int, dims: int) -> nn.Module:
    """TensorFlow's BatchNorm, whose epsilon is not PyTorch's."""
    return (nn.BatchNorm1d, nn.BatchNorm2d)[dims - 1](channels, eps=1e-3)


class Front(nn.Module):
    """A convolution over the spectrogram, and its largest value over all bands: [batch, 1, time, bands] to
    [batch, out, time]."""

    def __init__(self, out: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.pad = (kernel[0] - 1) // 2, kernel[0] // 2
        self.conv, self.norm = nn.Conv2d(1, out, kernel), normed(out, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x, (0, 0, *self.pad))
        return self.norm(torch.relu(self.conv(x))).amax(3)


class Middle(nn.Module):
    """A convolution over time: [batch, inner, time] to [batch, 64, time]."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(inner, 64, 7, padding=3), normed(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(x)))


class Musicnn(nn.Module):
    """[batch, time, 96] log-mel spectrograms to [batch, 50] logits of tags."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = normed(1, 2)
        kernels = [(7, int(0.4 * MELS)), (7, int(0.7 * MELS)), *((length, 1) for length in TEMPORAL)]
        self.front = nn.ModuleList(Front(204 if kernel[1] > 1 else 51, kernel) for kernel in kernels)
        self.middle = nn.ModuleList(Middle(inner) for inner in (561, 64, 64))
        self.pool_norm = normed(2 * (561 + 3 * 64), 1)
        self.dense, self.dense_norm = nn.Linear(2 * (561 + 3 * 64), 200), normed(200, 1)
        self.head = nn.Linear(200, 50)

    def named(self) -> dict[str, nn.Module]:
        """The layers by their names in the checkpoint."""
        dense = [self.dense, self.head]
        return {**numbered("conv2d", convolutions(self)), **numbered("dense", dense), **norms(self)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x[:, None])
        x = torch.cat([front(x) for front in self.front], 1)
        first = self.middle[0](x)
        second = self.middle[1](first) + first
        third = self.middle[2](second) + second
        x = torch.cat([x, first, second, third], 1)
        x = self.pool_norm(torch.stack([x.amax(2), x.mean(2)], 2).flatten(1))
        return self.head(self.dense_norm(torch.relu(self.dense(x))))


def unpacked() -> Path:
    """The folder of the wheel's package, fetched once."""
    if not (DATA / "musicnn").exists():
        DATA.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(DATA),
            "musicnn==0.1.0",
        ]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(DATA.glob("musicnn-*.whl"))) as wheel:
            wheel.extractall(DATA)
    return DATA / "musicnn"


class Vgg(nn.Module):
    """[batch, time, 96] log-mel spectrograms to [batch, 50] logits of tags: five convolutions, each pooled.

    Its graph pools over other windows in each of the two trainings.
    """

    POOLS = (  # over time and bands: size and stride
        {"MTT": ((4, 1), (2, 2)), "MSD": ((4, 1), (4, 1))},
        {"MTT": ((2, 2), (2, 2)), "MSD": ((1, 4), (1, 4))},
        *(dict.fromkeys(("MTT", "MSD"), ((side, side), (side, side))) for side in (2, 2, 4)),
    )

    def __init__(self, training: str) -> None:
        super().__init__()
        self.norm = normed(1, 2)
        self.convs = nn.ModuleList(nn.Conv2d(inner, 128, 3, padding=1) for inner in (1, *[128] * 4))
        self.norms = nn.ModuleList(normed(128, 2) for _ in self.convs)
        self.pools = [nn.MaxPool2d(*windows[training]) for windows in self.POOLS]
        self.head = nn.Linear(256, 50)

    def named(self) -> dict[str, nn.Module]:
        """The layers by their names in the checkpoint."""
        return {**{f"{k}CNN": conv for k, conv in enumerate(self.convs, 1)}, "dense": self.head, **norms(self)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x[:, None])
        for conv, norm, pool in zip(self.convs, self.norms, self.pools, strict=True):
            x = pool(norm(torch.relu(conv(x))))
        return self.head(x.permute(0, 2, 3, 1).flatten(1))


ARCHITECTURES: dict[str, Callable[[str], Musicnn | Vgg]] = {"musicnn": lambda training: Musicnn(), "vgg": Vgg}


def numbered(name: str, modules: list[nn.Module]) -> dict[str, nn.Module]:
    """TensorFlow's names for layers of one kind: name, name_1, name_2."""
    return {name + f"_{number}" * (number > 0): module for number, module in enumerate(modules)}


def convolutions(model: nn.Module) -> list[nn.Module]:
    """All convolutions, in order."""
    return [module for module in model.modules() if isinstance(module, nn.Conv1d | nn.Conv2d)]


def norms(model: nn.Module) -> dict[str, nn.Module]:
    """All BatchNorms by their names in the checkpoint."""
    found = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    return numbered("batch_normalization", found)


def pretrained(architecture: str, training: str) -> Musicnn | Vgg:
    """The model trained on "MTT" or "MSD", in eval mode. Every tensor of the checkpoint is placed, shape for shape."""
    stored = read(f"{unpacked()}/{training}_{architecture}/")
    found = {name: value for name, value in stored.items() if "Adam" not in name}
    model = ARCHITECTURES[architecture](training).eval()
    with torch.no_grad():
        for prefix, module in model.named().items():
            for entry, name in (NORM if prefix.startswith("batch") else LAYER).items():
                tensor = getattr(module, name)
                tensor.copy_(_placed(found.pop(f"{prefix}/{entry}"), tensor))
    left = [name for name in found if not name.endswith("_power")]
    assert not left, f"the checkpoint has tensors that the port lacks: {left}"
    return model


LAYER = {"kernel": "weight", "bias": "bias"}
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _placed(value: np.ndarray, like: Tensor) -> Tensor:
    """TensorFlow's [*kernel, in, out] as [out, in, *kernel]; the middle's [7, in, 1, out] slides over time alone."""
    if value.ndim == 4 and like.dim() == 3:
        value = value.transpose(2, 0, 1, 3)[0]
    placed = torch.from_numpy(np.moveaxis(value, (-1, -2), (0, 1)) if value.ndim > 1 else value)
    if placed.shape != like.shape:
        raise ValueError(f"the checkpoint has {tuple(placed.shape)} where the port has {tuple(like.shape)}")
    return placed
