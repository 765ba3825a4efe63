"""The pictures of `docs/experiment.md`: what is kept and what comes over, both over the weight, CKA over the layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.speech_music.findings import EQUAL, GAP_CLOSED as HALF
from benchmarks.speech_music.scoring import KEPT

COLOURS = {
    "linear": "#555555",
    "proposed": "#d1495b",
    "kinds": "#edae49",
    "learned": "#7b2d8b",
    "refit-as-is": "#a6cee3",
    "refit": "#5fa2ce",
    "learned-refit": "#2e86ab",
    "heal-random": "#cddc39",
    "heal-as-is": "#8bc34a",
    "heal": "#00796b",
    "long-as-is": "#bcaaa4",
    "long": "#5d4037",
}
MARKS = {"heal-a": "v", "scratch": "x", "long-scratch": "+"}
STEPS = (("linear", "proposed"), ("heal-as-is", "heal"), ("long-as-is", "long"))
"""Not aligned, aligned."""
SHAPES = "osD^vP*"
STYLE = {"svg.hashsalt": "permgraph", "svg.fonttype": "none"}
PANELS = {"speech": "speech score", "transfer": "way to the music encoder"}


def draw(folder: Path, name: str, result: dict[str, Any]) -> None:
    """`experiment-<name>-{plane,sweep,layers}.svg`, the same bytes for the same figures."""
    with mpl.rc_context(STYLE):
        if result["rows"]:
            _save(plane(result), folder / f"experiment-{name}-plane.svg")
            _save(sweep(result), folder / f"experiment-{name}-sweep.svg")
        if "layers" in result:
            _save(departures(result["layers"]["departures"]), folder / f"experiment-{name}-layers.svg")


def draw_pairs(folder: Path, results: dict[str, Any]) -> None:
    """`experiment-pairs.svg`, if there are several pairs."""
    if len(results) > 1:
        with mpl.rc_context(STYLE):
            _save(pairs(results), folder / "experiment-pairs.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


def line(result: dict[str, Any], row: dict[str, Any]) -> dict[float, dict[str, Any]]:
    """Weight -> scores; between B and A, which all lines without further learning end in."""
    ends = {0.0: result["B"], 1.0: result["A"]} if row["family"] in ("plain", "permuted", "kinds") else {}
    points = ends | {point["weight"]: point for point in row["points"]}
    return {weight: points[weight] for weight in sorted(points)}


def plane(result: dict[str, Any]) -> Figure:
    """The way to the music encoder over the speech score, a line for each step; the aim is the corner."""
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.subplots()
    corner = {"facecolor": "#00796b", "alpha": 0.08}
    axes.axvspan(KEPT, 1200, ymin=0, **corner)
    axes.axhline(HALF, color="#00796b", linewidth=0.8, linestyle=":")
    for row in result["rows"]:
        name = row["name"]
        if name in COLOURS:
            points = line(result, row).values()
            xs, ys = ([point[score][0] for point in points] for score in ("speech", "transfer"))
            axes.plot(xs, ys, ".-", color=COLOURS[name], label=row["title"])
        elif name in MARKS:
            point = row["points"][0]
            axes.plot(point["speech"][0], point["transfer"][0], MARKS[name], color="black", label=row["title"])
    for side, title in (("A", "A"), ("B", "B"), ("AB", "both side by side")):
        x, y = (result[side][score][0] for score in ("speech", "transfer"))
        axes.plot(x, y, "*", color="black")
        axes.annotate(title, (x, y), textcoords="offset points", xytext=(6, 4))
    axes.set_xlim(right=max(1100, result["AB"]["speech"][0] + 60))
    axes.set_xlabel("speech score (A: 1000); shaded: what the aim keeps")
    axes.set_ylabel("way to the music encoder (B: 1000); dotted: the aim")
    axes.legend(frameon=False, fontsize=8)
    return figure


def pairs(results: dict[str, Any]) -> Figure:
    """Half of each encoder: the way over the speech score, a colour for each step and a shape for each pair.

    Lines lead from what was not aligned to what was.
    """
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(KEPT, 1200, facecolor="#00796b", alpha=0.08)
    axes.axhline(HALF, color="#00796b", linewidth=0.8, linestyle=":")
    for (name, result), shape in zip(results.items(), SHAPES, strict=False):
        axes.plot([], [], shape, color="black", fillstyle="none", label=f"pair {name}")
        rows = {row["name"]: point for row in result["rows"] for point in row["points"] if point["weight"] == EQUAL}
        for both in STEPS:
            points = [(rows[step]["speech"][0], rows[step]["transfer"][0]) for step in both if step in rows]
            axes.plot(*zip(*points, strict=True) if points else ([], []), color="#bbbbbb", linewidth=0.8, zorder=1)
            for step, point in zip((step for step in both if step in rows), points, strict=True):
                axes.plot(*point, shape, color=COLOURS[step])
    titles = {row["name"]: row["title"] for result in results.values() for row in result["rows"]}
    for name in (step for both in STEPS for step in both):
        if name in titles:
            axes.plot([], [], "s", color=COLOURS[name], label=titles[name])
    axes.set_xlim(right=1100)
    axes.set_xlabel("speech score (A: 1000); shaded: what the aim keeps")
    axes.set_ylabel("way to the music encoder (B: 1000); dotted: the aim")
    axes.legend(frameon=False, fontsize=8)
    return figure


def sweep(result: dict[str, Any]) -> Figure:
    """Two panels over A's share, with intervals."""
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    for axes, (score, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for row in result["rows"]:
            if row["name"] in COLOURS:
                points = line(result, row)
                middle, low, high = zip(*(point[score] for point in points.values()), strict=True)
                axes.plot(list(points), middle, ".-", color=COLOURS[row["name"]], label=row["title"])
                axes.fill_between(list(points), low, high, color=COLOURS[row["name"]], alpha=0.12, linewidth=0)
        axes.set_title(title, loc="left")
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
