"""diffusers, which `make` installs beside the environment: its own requirements would be too many."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

BESIDE = Path(sys.prefix) / "diffusers"


def available() -> bool:
    """Whether it is there."""
    return BESIDE.is_dir() or find_spec("diffusers") is not None


def load() -> ModuleType:
    """The package, importable by whoever looks for it from now on."""
    if str(BESIDE) not in sys.path:
        sys.path.append(str(BESIDE))
    return importlib.import_module("diffusers")
