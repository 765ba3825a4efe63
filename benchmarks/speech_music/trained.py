"""Which encoders the manifest trains and ships, and how their training went."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def taught(pair: Sequence[str]) -> str:
    """Of two runs, whether the manifest makes one the teacher of the other."""
    said = []
    for iteration in json.loads(MANIFEST.read_text())["iterations"]:
        options = iteration.get("second_teacher", [])
        teacher = Path(options[options.index("--encoder") + 1]).parent.name if options else ""
        pupils = [one["run"] for one in iteration["encoders"] if "--teacher" in one["options"]]
        said += [
            f"{pupil} was trained to predict clusters of the hidden states of a training of {teacher}: the two are "
            "akin. "
            for pupil in pupils
            if {teacher, pupil} == set(pair)
        ]
    return "".join(said)


def training() -> dict[str, list[dict[str, Any]]]:
    """Run -> its log, of the runs that have come to their end here."""
    logs = [folder.with_name("log.jsonl") for folder in sorted((DATA / "runs").glob("*/encoder"))]
    return {log.parent.name: [json.loads(line) for line in log.read_text().splitlines()] for log in logs}
