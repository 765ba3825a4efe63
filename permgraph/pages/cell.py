"""An alignment in a cell of a notebook: the proof, the table of gains, and pictures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from permgraph.matching.gains_report import HEAD, gain_rows, headline, notes, rows_of, unit_of
from permgraph.pages.charts import picture, range_bar
from permgraph.pages.colours import role_colour
from permgraph.symmetry.elements.report import MOST_ROWS

if TYPE_CHECKING:
    from permgraph.matching.alignment import Alignment

STYLE = """<style>
.permgraph { --tone: 0.62; --still: #b4b8be; --rule: #b4b8be66; --paper: transparent; --quiet: gray; }
.permgraph svg { display: block; width: 220px; height: 22px; overflow: visible; }
.permgraph svg path { fill: none; stroke-width: 2; }
.permgraph .grid { stroke: var(--rule); stroke-width: 1; }
.permgraph .band { stroke-width: 9; stroke-linecap: round; opacity: 0.28; }
.permgraph .hollow { fill: var(--paper); stroke: var(--quiet); stroke-width: 1.6; }
.permgraph .matrix { aspect-ratio: 1; image-rendering: pixelated; border: 1px solid var(--rule); margin-right: 6px; }
.permgraph figure { display: inline-block; margin: 0 1.6em 0.8em 0; }
</style>"""
MOST_PICTURES = 4


def alignment_cell(alignment: Alignment) -> str:
    """HTML for notebooks: remarks, the gains with a picture of each, correlations before and after."""
    told = "".join(f"<p>{escape(line)}</p>" for line in (headline(alignment), *notes(alignment)))
    return f'<div class="permgraph">{STYLE}{told}{_table(alignment)}{_correlations(alignment)}</div>'


def _table(alignment: Alignment) -> str:
    values = {name: gain.shares for name, gain in alignment.gains.items()}
    low = min([0.0, *(value for pair in values.values() for value in pair)])
    kinds, rows = rows_of(alignment), gain_rows(alignment)
    lines = []
    for (_, names), row in list(zip(kinds, rows, strict=True))[:MOST_ROWS]:
        before, after = ([values[name][k] for name in names] for k in (0, 1))
        bar = range_bar(before, after, role_colour(row[1]), low, 1.0)
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr>{cells}<td>{bar}</td></tr>")
    head = "".join(f"<th>{name}</th>" for name in (*HEAD, ""))
    more = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    unit = f"<p>Figures: {escape(unit_of(alignment))}; hollow unmoved, full aligned.</p>"
    return f"{unit}<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def _correlations(alignment: Alignment) -> str:
    """The first and the last comparisons of activations, and some between, as matrices of unit by unit."""
    count = len(alignment.partners)
    if not count:
        return ""
    index = np.unique(np.linspace(0, count - 1, MOST_PICTURES).round().astype(int))
    figures = []
    for one in (alignment.partners[k] for k in index):
        name = " × ".join(one.groups)
        pair = picture(one.unmoved, f"{name}, unmoved") + picture(one.moved, f"{name}, aligned")
        figures.append(f"<figure>{pair}<figcaption>{escape(name)}</figcaption></figure>")
    note = "<p>Correlations of the units of A (rows) with those of B (columns), unmoved and aligned.</p>"
    return note + "".join(figures)
