"""The pictures of `docs/experiment.md`: scores over the weight, CKA over the layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

SCORES = ("speech", "music", "average")
COLOURS = {
    "linear": "#555555",
    "proposed": "#d1495b",
    "cnn-all": "#7b2d8b",
    "heal": "#00796b",
    "heal-as-is": "#8bc34a",
    "random": "#2e86ab",
    "scrambled": "#edae49",
    "noise": "#66a182",
    "released": "#a0522d",
}


def draw(folder: Path, name: str, result: dict[str, Any]) -> None:
    """`experiment-<name>-sweep.svg` and `experiment-<name>-layers.svg`, the same bytes for the same figures."""
    with mpl.rc_context({"svg.hashsalt": "permgraph", "svg.fonttype": "none"}):
        if result["rows"]:
            _save(sweep(result), folder / f"experiment-{name}-sweep.svg")
        if "layers" in result:
            _save(departures(result["layers"]["departures"]), folder / f"experiment-{name}-layers.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


def sweep(result: dict[str, Any]) -> Figure:
    """Three panels: each score over A's share, with intervals."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for axes, score in zip(figure.subplots(1, 3), SCORES, strict=True):
        for row in result["rows"]:
            if row["name"] in COLOURS:
                ends = {0.0: result["B"][score], 1.0: result["A"][score]} if row["name"] == "linear" else {}
                points = ends | {point["weight"]: point[score] for point in row["points"]}
                weights = sorted(points)
                middle, low, high = zip(*(points[w] for w in weights), strict=True)
                axes.plot(weights, middle, ".-", color=COLOURS[row["name"]], label=row["title"])
                axes.fill_between(weights, low, high, color=COLOURS[row["name"]], alpha=0.12, linewidth=0)
        axes.set_title(f"{score} score", loc="left")
        axes.set_xlabel("share of A (speech)")
    figure.axes[-1].legend(frameon=False, fontsize=7)
    return figure


def departures(rows: list[dict[str, Any]]) -> Figure:
    """CKA with A and with B over the layers, for every merged model at the lower weight."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    lowest = min(row["weight"] for row in rows)
    models = list(dict.fromkeys(row["model"] for row in rows if row["weight"] == lowest))
    for axes, side in zip(figure.subplots(1, 2, sharey=True), "ab", strict=True):
        for model in models:
            found = {r["layer"]: r[side] for r in rows if r["model"] == model and r["weight"] == lowest}
            axes.plot(range(len(layers)), [found[layer] for layer in layers], ".-", label=model)
        axes.set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize=8)
        axes.set_title(f"linear CKA with {side.upper()}, at {lowest:g}", loc="left")
    figure.axes[-1].legend(frameon=False, fontsize=8)
    return figure
