"""Markdown tables, and how the figures in their cells are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan
from typing import Any

DASH = "–"
TEXT = ("held by", "outcome", "merged by")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column and those of text to the left, the others to the right."""
    marks = ["---:" if k and not name.endswith(TEXT) else "---" for k, name in enumerate(head)]
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def seconds(value: float | None) -> str:
    """Two digits below ten seconds, one above."""
    if value is None:
        return DASH
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def order(value: float | None) -> str:
    """log10 of an order."""
    return DASH if value is None else f"{value:,.1f}"


def percent(value: float) -> str:
    """A share, where it is a number."""
    return DASH if isnan(value) else f"{value:.1%}"


def yes(value: bool) -> str:
    """A truth value."""
    return "yes" if value else "**no**"


def figures(data: dict[str, Any], leave_out: Sequence[str] = ()) -> str:
    """Every scalar as a row."""
    kept = {key: value for key, value in data.items() if key not in leave_out and not isinstance(value, dict | list)}
    return table(("figure", "value"), [[key.replace("_", " "), shown(value)] for key, value in kept.items()])


def shown(value: Any) -> str:
    """A scalar as a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
