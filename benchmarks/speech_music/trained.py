"""Which encoders the manifest trains and ships, and how their training went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.speech_music.fetch import DATA

MANIFEST = Path(__file__).with_name("manifest.json")


def runs(about: dict[str, Any]) -> tuple[str, ...]:
    """The runs that trained A and B of a pair; what ships is known by its domain."""
    ships = json.loads(MANIFEST.read_text())["ships"]
    folders = [Path(about[side]) for side in "ab"]
    return tuple(ships.get(folder.name, folder.parent.name) for folder in folders)


def steps(about: dict[str, Any], training: dict[str, Any]) -> str:
    """How many steps both encoders were trained for, where their logs are known."""
    a, b = runs(about)
    if not training.keys() >= {a, b}:
        return ""
    return f"A was trained for {training[a][-1]['step']:,} steps (run {a}), B for {training[b][-1]['step']:,} ({b}). "


def training() -> dict[str, list[dict[str, Any]]]:
    """Run -> its log, of the runs that have come to their end here."""
    logs = [folder.with_name("log.jsonl") for folder in sorted((DATA / "runs").glob("*/encoder"))]
    return {log.parent.name: [json.loads(line) for line in log.read_text().splitlines()] for log in logs}
