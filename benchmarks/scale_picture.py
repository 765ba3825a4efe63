"""The picture of what size costs: `python -m benchmarks.scale_picture` draws `docs/pictures/streaming.svg`.

Peak of resident memory and processor time over the bytes of A and B, from `benchmarks/results/streaming.json`: filled
marks are measured, hollow ones extrapolated. The same bytes for the same figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RESULT, PICTURE = ROOT / "benchmarks" / "results" / "streaming.json", ROOT / "docs" / "pictures" / "streaming.svg"
SERIES = {"permutation": ("permutations", "#3f83d6"), "all": ("all kinds", "#c97f00")}
PANELS = {"peak, GB": lambda row: row["peak_mb"] * 2**20 / 1e9, "CPU, s": lambda row: row["cpu_seconds"]}


def both(row: dict[str, Any]) -> float:
    """GB of the files of A and B."""
    return 2 * row["bytes"] / 1e9


def drawn(data: dict[str, Any]) -> Figure:
    """A panel of memory and one of time."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(PANELS)))
    for panel, (label, cost) in zip(panels, PANELS.items(), strict=True):
        for kinds, (name, colour) in SERIES.items():
            rows = [row for row in data["rows"] if row["kinds"] == kinds]
            panel.plot([both(row) for row in rows], [cost(row) for row in rows], "o-", color=colour, label=name)
        further = data["extrapolated"]
        colour = SERIES["permutation"][1]
        panel.plot([both(row) for row in further], [cost(row) for row in further], "o", mfc="none", color=colour)
        panel.set(xscale="log", yscale="log", xlabel="files of A and B, GB", ylabel=label)
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    return figure


def draw() -> None:
    """Write the picture."""
    with mpl.rc_context({"svg.hashsalt": "permgraph", "svg.fonttype": "none"}):
        drawn(json.loads(RESULT.read_text())).savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
