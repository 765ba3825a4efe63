"""Pictures as text: line charts and ranges in SVG, matrices as PNG, all inside the page."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

Numbers = npt.ArrayLike
INK = (0x2F, 0x86, 0xB5)
EDGE = 200
"""The most that a matrix is wide and high, in CSS pixels, unless it has more units."""
WIDTH, HEIGHT, LEFT, BOTTOM = 300, 170, 34, 22


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a chart: its points, its CSS colour, and the words that appear over it."""

    x: Numbers
    y: Numbers
    colour: str
    name: str
    dashed: bool = False
    dots: bool = False


def line_chart(lines: Sequence[Line], *, x_name: str, y_name: str, y_range: tuple[float, float] | None = None) -> str:
    """An SVG with axes from the smallest to the largest x, and y in `y_range` or as far as the lines go."""
    low, high = y_range or _range([value for line in lines for value in np.asarray(line.y, float)])
    left, right = _range([value for line in lines for value in np.asarray(line.x, float)])
    frame = _Frame(left, right, low, high)
    drawn = "".join(frame.polyline(line) for line in lines)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{y_name} by {x_name}")}">'
        f'{frame.axes()}{drawn}<text x="{WIDTH - 4}" y="{HEIGHT - 2}" class="end">{escape(x_name)}</text>'
        f'<text x="{LEFT}" y="9">{escape(y_name)}</text></svg>'
    )


@dataclass(frozen=True)
class _Frame:
    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.left) / ((self.right - self.left) or 1) * (WIDTH - LEFT - 6)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return HEIGHT - BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - BOTTOM - 16)

    def axes(self) -> str:
        marks = []
        for value in ticks(self.low, self.high):
            y = self.y(value)
            marks.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - 6}"/>')
            marks.append(f'<text class="end" x="{LEFT - 5}" y="{y + 3:.1f}">{value:.3g}</text>')
        for value in ticks(self.left, self.right):
            marks.append(f'<text x="{self.x(value):.1f}" y="{HEIGHT - 11}" class="middle">{value:.3g}</text>')
        return "".join(marks)

    def polyline(self, line: Line) -> str:
        points = list(zip(np.asarray(line.x, float), np.asarray(line.y, float), strict=True))
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="3 3"' if line.dashed else ""
        name = f"<title>{escape(line.name)}</title>"
        dots = "".join(
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="2.4" style="fill:{line.colour}">'
            f"<title>{x:.3g}: {y:.4g}</title></circle>"
            for x, y in points * line.dots
        )
        return f'<g><polyline points="{path}" style="stroke:{line.colour}"{dash}>{name}</polyline>{dots}</g>'


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, two to six of them: multiples of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** np.floor(np.log10(high - low))
    step *= next(factor for factor in (5, 2, 1, 0.5, 0.2) if (high - low) / (step * factor) >= 2.5)
    first = np.ceil(low / step - 1e-9)
    return [float(k * step) + 0.0 for k in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def range_bar(before: Sequence[float], after: Sequence[float], colour: str, low: float, high: float) -> str:
    """From the mean before (hollow) to the mean after (full), with the spread of each over layers as a faint band."""
    width, height = 220, 22
    at = [6 + (value - low) / ((high - low) or 1) * (width - 12) for value in (*before, *after)]
    early, late = at[: len(before)], at[len(before) :]
    a, b = float(np.mean(early)), float(np.mean(late))
    words = f"from {np.mean(before):.3f} to {np.mean(after):.3f}"
    bands = "".join(
        f'<path class="band" style="stroke:{tint}" d="M{min(part):.1f} {height / 2}H{max(part):.1f}"/>'
        for part, tint in ((early, "var(--still)"), (late, colour))
    )
    return (
        f'<svg class="range" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">'
        f'<title>{words}</title><path class="grid" d="M6 {height / 2}H{width - 6}"/>{bands}'
        f'<path class="step" style="stroke:{colour}" d="M{a:.1f} {height / 2}H{b:.1f}"/>'
        f'<circle cx="{a:.1f}" cy="{height / 2}" r="4" class="hollow"/>'
        f'<circle cx="{b:.1f}" cy="{height / 2}" r="4.5" style="fill:{colour}"/></svg>'
    )


def picture(matrix: npt.NDArray[np.floating], title: str) -> str:
    """An `<img>` of a matrix: nothing at 0 and below, full ink at 1. Any background shows through."""
    levels = (np.clip(np.nan_to_num(matrix), 0, 1) * 255).round().astype(np.uint8)
    width = max(1, EDGE // len(levels)) * len(levels)  # whole pixels for every unit
    png = base64.b64encode(_png(levels)).decode()
    words = f'alt="{escape(title)}" title="{escape(title)}" style="width:{width}px"'
    return f'<img class="matrix" {words} src="data:image/png;base64,{png}">'


def _png(levels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG with one colour whose opacity is the level: 8-bit palette, as the PNG specification has it."""
    height, width = levels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(INK) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low, low + 1)
