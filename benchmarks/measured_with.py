"""What figures were measured with, in one line: commit, date, processor and versions."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "numpy", "scipy", "transformers")


def measured_with() -> str:
    """As `9a55ae1, 2025-11-29, 2 cores of Intel(R) Xeon(R), Python 3.11.7, torch 2.13.0, …`.

    A commit with `+` had changes that it lacks.
    """
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    processor = f"{os.cpu_count()} cores of {_processor()}"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return ", ".join([_commit(), today, processor, f"Python {platform.python_version()}", *versions])


def _commit() -> str:
    given = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **given).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no", "--", "permgraph"], **given)
    return f"{commit or 'no commit'}{'+' if changed.stdout.strip() else ''}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
