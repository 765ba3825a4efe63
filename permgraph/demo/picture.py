"""The demo's picture: how alike matched units are, and what every model knows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

from permgraph.demo.merges import Row
from permgraph.demo.probes import Probe
from permgraph.matching.alignment import Alignment

COLOURS = {"A": "#2e4057", "B": "#66a182", "plain": "#9aa5b1", "aligned": "#d1495b"}
HATCHES = ("", "..", "//")


def draw(path: Path, alignment: Alignment, rows: Iterable[Row], probes: Iterable[Probe]) -> None:
    """A picture: matched correlation of every group before and after, and the table of accuracies as bars."""
    try:
        from matplotlib.figure import Figure
    except ImportError:  # an extra
        return
    figure = Figure(figsize=(14, 11), layout="constrained")
    above, below = figure.subplots(2, 1)
    _draw_gains(above, alignment)
    _draw_scores(below, list(rows), list(probes))
    figure.savefig(path, dpi=110)


def _draw_gains(axes: Any, alignment: Alignment) -> None:
    names = list(alignment.gains)
    places = range(len(names))
    axes.plot(places, [alignment.gains[n].identity for n in names], "o", color="#9aa5b1", label="B as it is")
    axes.plot(places, [alignment.gains[n].solution for n in names], "o", color="#d1495b", label="B aligned")
    axes.vlines(
        places, *zip(*((g.identity, g.solution) for g in alignment.gains.values()), strict=True), color="#e6b8bf"
    )
    axes.set_xticks(places, [_short(n) for n in names], rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_ylabel("mean correlation with A's unit")
    axes.set_title("Units of B and of A in the same place: how alike they respond to the same sound", loc="left")
    axes.axhline(0, color="black", linewidth=0.5)
    axes.legend(frameon=False)


def _short(name: str) -> str:
    return (
        name.removeprefix("feature_extractor.")
        .removeprefix("encoder.")
        .removesuffix(".channels")
        .removesuffix(".hidden")
    )


def _draw_scores(axes: Any, rows: list[Row], probes: list[Probe]) -> None:
    width = 0.85 / len(rows)
    looks = dict.fromkeys((row.weight, row.steps) for row in rows if row.weight is not None)
    hatches: dict[tuple[float | None, int], str] = dict(zip(looks, cycle(HATCHES), strict=False))
    for k, row in enumerate(rows):
        heights = [100 * row.scores[probe.name] for probe in probes]
        where = [place + (k - (len(rows) - 1) / 2) * width for place in range(len(probes))]
        hatch = hatches.get((row.weight, row.steps), "")
        bars = axes.bar(where, heights, 0.92 * width, color=COLOURS[row.kind], hatch=hatch, edgecolor="white")
        bars.set_label(row.title)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    for place, probe in enumerate(probes):
        line = axes.hlines(100 * probe.chance, place - 0.45, place + 0.45, color="black", linestyle=":", linewidth=1)
        line.set_label("chance" if not place else None)
    axes.set_xticks(range(len(probes)), [f"{probe.domain}: {probe.title}" for probe in probes])
    axes.set_ylim(0, 118)  # room for the legend
    axes.set_ylabel("accuracy of a small probe, %")
    axes.set_title("What the frozen encoders know", loc="left")
    axes.legend(frameon=False, fontsize=8, ncols=3)
