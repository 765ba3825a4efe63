"""`compare --html`: the verdict with its evidence, and how alike groups and layers are, in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from permgraph.pages.charts import Line, line_chart, range_bar
from permgraph.pages.colours import role_colour
from permgraph.pages.page import page
from permgraph.pages.report import SCRIPTS, STYLES
from permgraph.pages.sections import MODEL, breaking, data_table, head, section, still
from permgraph.symmetry.elements.folded_names import fold
from permgraph.uses.comparison import report
from permgraph.uses.comparison.compare import Comparison
from permgraph.uses.comparison.similarity import Similarity

NOTE = "Cosine of the weights of A and B: hollow unmoved, full with B moved to A; the bands span the layers."


def comparison_page(comparison: Comparison, names: tuple[str, str]) -> str:
    """One HTML file that needs no network; `names` are those of A and B."""
    title = f"{_short(names[0])} and {_short(names[1])}"
    found, whole = comparison.alignment, comparison.whole
    stats = [
        (comparison.verdict, "verdict"),
        (f"{whole.unmoved:.3f}", "cosine unmoved"),
        (f"{whole.aligned:.3f}", "cosine with B moved"),
        (f"{comparison.p_value:.3g}", "p-value"),
    ]
    models = {f"{MODEL}{letter}": name for letter, name in zip("AB", names, strict=True)}
    role = {group.name: group.role for group in found.spec.groups}
    lines = "".join(f"<li>{escape(line)}</li>" for line in report.evidence(comparison))
    sections = [
        head(title, f"{report.verdict(comparison)}.", stats, found.certificate, models),
        section("Evidence", f"<ul>{lines}</ul>"),
        section("Groups", _table(comparison.similarity, role)),
        section("Layers", _chart(comparison.layers), _table(comparison.layers, {})),
        still(found.spec, found.gains, [found.permutations]),
    ]
    return page(f"{title} · permgraph", "".join(sections), styles=STYLES, scripts=SCRIPTS)


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2] or name


def _table(given: Mapping[str, Similarity], role: Mapping[str, str]) -> str:
    """A row for each name, layers folded: a picture, and the numbers."""
    low = min([0.0, *(value for one in given.values() for value in (one.unmoved, one.aligned))])
    rows = []
    for pattern, names in fold(given):
        before, after = ([getattr(given[name], side) for name in names] for side in ("unmoved", "aligned"))
        bar = range_bar(before, after, role_colour(role.get(names[0], "other")), low, 1.0)
        distance = float(np.mean([given[name].aligned_distance for name in names]))
        rows.append(_row(pattern, bar, float(np.mean(before)), float(np.mean(after)), distance))
    columns = [("name", False), ("", False), *((name, True) for name in ("unmoved", "aligned", "distance"))]
    return f'<p class="quiet">{NOTE}</p>{data_table(columns, rows, wide=(1,))}'


def _row(name: str, bar: str, *numbers: float) -> str:
    a, b, distance = numbers
    cells = "".join(f'<td class="number">{text}</td>' for text in (f"{a:.3f}", f"{b:.3f}", f"{distance:.2g}"))
    return f"<tr><td>{breaking(name)}</td><td>{bar}</td>{cells}</tr>"


def _chart(layers: Mapping[str, Similarity]) -> str:
    """Cosines from the first layer to the last."""
    if len(layers) < 2:
        return ""
    x: Sequence[int] = range(1, len(layers) + 1)
    before, after = ([getattr(one, side) for one in layers.values()] for side in ("unmoved", "aligned"))
    low = min(0.0, *before, *after)
    lines = (
        Line(x, before, "var(--still)", "unmoved", dashed=True, dots=True),
        Line(x, after, "var(--accent)", "with B moved", dots=True),
    )
    return f'<div class="wide">{line_chart(lines, x_name="layer", y_name="cosine", y_range=(low, 1.0))}</div>'
