"""The section on other objectives and starts of matching by weights, for the page on pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pair_means import NAMES, Row, mean_of, order_of, shown
from table_cells import table

OBJECTIVES = """### By weights: another objective, another start

    nice python -m benchmarks.pairs.objectives             # measures

Matching by weights maximises Σ <θ_A, g θ_B>. The table has the barriers if the tensors are weighted differently, and if
the rotations of the streams start at a random distance from their solution (an angle of about the given size, in
radians, in each plane). *Reached*: the objective relative to that of the default, mean over pairs. If nearly all of it
is reached and the barrier differs, weights alone cannot tell which element is better.
"""


def objectives(rows: Sequence[Row]) -> Iterator[str]:
    """A table: the barrier of each architecture, and how much of the objective is reached."""
    yield OBJECTIVES
    names = [name for name in NAMES if any(row["architecture"] == name for row in rows)]
    head = ("", *(cell for name in names for cell in (f"{name}: barrier", "reached")))
    lines = []
    for what in order_of(rows, "what"):
        line = [what]
        for name in names:
            own = [row for row in rows if (row["architecture"], row["what"]) == (name, what)]
            plain = {
                tuple(r["pair"]): r["value"] for r in rows if r["architecture"] == name and r["what"] == "as it is"
            }
            reached = sum(row["value"] / plain[tuple(row["pair"])] for row in own) / len(own)
            line += [shown(mean_of(own, "height")), f"{reached:.3f}"]
        lines.append(line)
    yield table(head, lines)
    yield "".join(f"- {NAMES[name]}: {_lowest(rows, name)}.\n" for name in names)


def _lowest(rows: Sequence[Row], name: str) -> str:
    """Which row has the lowest barrier, and by how much it is below the default."""
    own = [row for row in rows if row["architecture"] == name]
    heights = {
        what: mean_of([row for row in own if row["what"] == what], "height")[0] for what in order_of(own, "what")
    }
    best, usual = min(heights, key=heights.__getitem__), next(iter(heights))
    return "no other row is lower" if best == usual else f"lowest {best}, by {heights[usual] - heights[best]:.3f}"
