"""timm and torchvision, which `make` installs beside the environment: torchvision's wheel is made for another build.

It loads beside a CPU build of PyTorch once the two operations that it registers on import have been declared.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

BESIDE = Path(sys.prefix) / "vision"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def available() -> bool:
    """Whether the two packages are there."""
    return BESIDE.is_dir() or find_spec("timm") is not None


def load(name: str) -> ModuleType:
    """The module `name` of timm or torchvision; nothing else is made importable."""
    install()
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BESIDE))


def install() -> None:
    """Make both importable by whoever looks for them from now on."""
    if not _declared:
        _declared.append(torch.library.Library("torchvision", "DEF"))
        for schema in SCHEMAS:
            _declared[0].define(schema)
    sys.path.append(str(BESIDE))
