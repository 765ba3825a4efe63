"""What the page is written in: Markdown tables, and estimates with their intervals."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, marks, *rows)) + "\n"


def span(values: Sequence[float], digits: int = 0, sign: bool = False) -> str:
    """An estimate with its interval."""
    mark = "+" if sign else ""
    estimate, low, high = (f"{value:{mark}.{digits}f}" for value in values)
    return f"{estimate} [{low}, {high}]"
