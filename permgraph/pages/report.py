"""`report.html`: what an alignment changed in each group, in pictures, and what it did not move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

import numpy as np

from permgraph.matching.alignment import Alignment
from permgraph.matching.gains_report import by, rows_of, unit_of
from permgraph.matching.partners import Partners
from permgraph.merging.barrier import Barrier
from permgraph.pages.charts import Line, line_chart, picture, range_bar
from permgraph.pages.colours import role_colour
from permgraph.pages.page import page
from permgraph.pages.sections import breaking, data_table, head, made, section, still
from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.report import moved_share

STYLES, SCRIPTS = ("base.css", "report.css"), ("sorting.js", "report.js")
MOST_POINTS = 48  # of a spectrum
MOST_PICTURES = 3  # layers of a kind whose matrices are shown: the first, the last, and those evenly between


def report_page(
    alignment: Alignment,
    title: str,
    what: str,
    *,
    facts: Mapping[str, str] | None = None,
    barriers: Mapping[str, Barrier] | None = None,
) -> str:
    """The report of an alignment, and of the merge that followed.

    Args:
        alignment: what `align` returned.
        title: the heading, such as the name of the output.
        what: one sentence on the output.
        facts: name -> text: inputs, versions, the command.
        barriers: name -> the loss on a path between the two models, if it was measured; see `pg.barrier`.

    """
    sections = [
        head(title, what, _stats(alignment), alignment.certificate, facts or {}),
        _gains(alignment),
        _interpolation(barriers or {}),
        _matrices(alignment),
        _spectra(alignment),
        still(alignment.spec, alignment.gains, [alignment.permutations]),
        made(facts or {}),
    ]
    return page(f"{title} · permgraph", "".join(sections), styles=STYLES, scripts=SCRIPTS)


def _stats(alignment: Alignment) -> list[tuple[str, str]]:
    names = list(alignment.gains)
    return [
        (f"{len(names)} of {len(alignment.spec.groups)}", f"groups matched by {by(alignment.method)}"),
        (f"{moved_share(alignment.permutations, names):.1%}", "of their units moved"),
        (f"{len(alignment.exact)} of {len(names)}", "groups at a proven optimum"),
    ]


def _gains(alignment: Alignment) -> str:
    unit = unit_of(alignment)
    unit = f"{unit[0].upper()}{unit[1:]}: hollow unmoved, full moved; the bands span the layers."
    values = {name: gain.shares for name, gain in alignment.gains.items()}
    low = min([0.0, *(value for pair in values.values() for value in pair)])
    rows = []
    for pattern, names in rows_of(alignment):
        before, after = ([values[name][k] for name in names] for k in (0, 1))
        role = alignment.spec[names[0]].role
        bar = range_bar(before, after, role_colour(role), low, 1.0)
        rows.append(_gain_row(pattern, role, before, after, moved_share(alignment.permutations, names), bar))
        if len(names) > 1:
            rows.append(_layers(alignment, names, values))
    columns = [(name, k > 2) for k, name in enumerate(("group", "role", "", "unmoved", "aligned", "gained", "moved"))]
    return section("Gains", f'<p class="quiet">{unit}</p>{data_table(columns, rows, wide=(1, 2))}')


def _gain_row(
    name: str, role: str, before: Sequence[float], after: Sequence[float], moved: float, bar: str = ""
) -> str:
    a, b = float(np.mean(before)), float(np.mean(after))
    numbers = "".join(
        f'<td class="number">{text}</td>' for text in (f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", f"{moved:.0%}")
    )
    return f"<tr><td>{breaking(name)}</td><td>{escape(role)}</td><td>{bar}</td>{numbers}</tr>"


def _layers(alignment: Alignment, names: Sequence[str], values: Mapping[str, tuple[float, float]]) -> str:
    rows = "".join(
        _gain_row(name, "", [values[name][0]], [values[name][1]], moved_share(alignment.permutations, [name]))
        for name in names
    )
    details = f"<details><summary>layer by layer</summary><table>{rows}</table></details>"
    return f'<tr class="layers"><td colspan="7">{details}</td></tr>'


def _interpolation(barriers: Mapping[str, Barrier]) -> str:
    """The curves by name, the first dashed; points that are not finite are left out."""
    if not barriers:
        return ""
    colours = ("var(--still)", "var(--accent)", role_colour("feed_forward"), role_colour("conv"))
    lines = []
    for k, (name, one) in enumerate(barriers.items()):
        points = [(x, y) for x, y in zip(one.weights, one.losses, strict=True) if isfinite(y)]
        words = f"{name}, {barrier_words(one)}" if isfinite(one.height) else name
        x, y = zip(*points, strict=True)
        lines.append(Line(x, y, colours[k % len(colours)], words, dashed=k == 0, dots=True))
    keys = "".join(f'<span><i style="background:{line.colour}"></i>{escape(line.name)}</span>' for line in lines)
    chart = line_chart(lines, x_name="weight of A", y_name="loss")
    worse = f"<p><b>{escape(word)}</b></p>" if (word := worse_words(barriers)) else ""
    return section("Between the two models", f'<p class="keys">{keys}</p>{worse}<div class="wide">{chart}</div>')


def worse_words(barriers: Mapping[str, Barrier]) -> str:
    """A sentence if the last curve has a higher barrier than the first, else "", also if one is not finite."""
    first, last = next(iter(barriers.values())), list(barriers.values())[-1]
    if not last.height > max(first.height, 0):
        return ""
    names = list(barriers)
    return f"The barrier is higher {names[-1]} than {names[0]}: {last.height:.3g} and {max(first.height, 0):.3g}."


def barrier_words(one: Barrier) -> str:
    """The height of a barrier and where it is, or that there is none."""
    return f"barrier {one.height:.3g} at {one.highest:.2g}" if one.height > 0 else "no barrier"


def _kinds(alignment: Alignment) -> list[tuple[str, str, list[tuple[str, Partners]]]]:
    """(pattern, role, comparisons with their names) of the points whose groups differ only in layer numbers."""
    names = [" × ".join(n for n in c.groups if n in alignment.gains) for c in alignment.partners]
    found: dict[str, Partners] = {}
    for k, (name, comparison) in enumerate(zip(names, alignment.partners, strict=True)):
        point = f" (point {names[: k + 1].count(name)})" if names.count(name) > 1 else ""
        found[name + point] = comparison
    return [
        (pattern, _role(alignment, found[alike[0]]), [(name, found[name]) for name in alike])
        for pattern, alike in fold(found)
    ]


def _role(alignment: Alignment, comparison: Partners) -> str:
    return next((alignment.spec[n].role for n in reversed(comparison.groups) if n in alignment.gains), "other")


NO_DATA = "Matched by weights: no activations were compared. Give calibration data to see how units correlate."
NOT_DRAWN = "Pictures of unit by unit are drawn for permutations matched by correlation or a mix alone."


def _matrices(alignment: Alignment) -> str:
    if not alignment.partners:
        why = NO_DATA if alignment.method == "weights" else NOT_DRAWN
        return section("Correlations", f'<p class="quiet">{why}</p>')
    rows = []
    for pattern, _, comparisons in _kinds(alignment):
        index = np.unique(np.linspace(0, len(comparisons) - 1, MOST_PICTURES).round().astype(int))
        figures = "".join(_pair(*comparisons[k]) for k in index)
        rows.append(f"<h3>{escape(pattern)}</h3><div class='pairs'>{figures}</div>")
    note = (
        '<p class="quiet">Rows are units of A, columns units of B: left unmoved, right with B moved, where matches '
        "are on the diagonal. Full colour is a correlation of 1, no colour is 0 or less.</p>"
    )
    return section("Correlations before and after", note, *rows)


def _pair(name: str, comparison: Partners) -> str:
    n, shown = comparison.identity.size, len(comparison.moved)
    each = f", 1 in {-(-n // shown)} shown" if shown < n else ""
    before, after = float(comparison.identity.mean()), float(comparison.solution.mean())
    return (
        f"<figure>{picture(comparison.unmoved, f'{name}, unmoved')}{picture(comparison.moved, f'{name}, moved')}"
        f"<figcaption>{escape(name)}<br><span class='quiet'>{n} units{each} · mean {before:.3f} → {after:.3f}</span>"
        "</figcaption></figure>"
    )


def _spectra(alignment: Alignment) -> str:
    if not alignment.partners:
        return ""
    figures = []
    for pattern, role, comparisons in _kinds(alignment):
        lines = [line for k, one in enumerate(comparisons) for line in _spectrum(*one, role, k / len(comparisons))]
        low = -0.5 if all(np.min(np.asarray(line.y)) > -0.5 for line in lines) else -1.0
        chart = line_chart(lines, x_name="share of units", y_name="correlation", y_range=(low, 1.0))
        figures.append(f"<figure>{chart}<figcaption>{escape(pattern)}</figcaption></figure>")
    note = (
        '<p class="quiet">Correlation of matched units from the best to the worst, one line a layer, darker with '
        "depth; dashed and grey, the same units unmoved.</p>"
    )
    return section("Spectrum of matched correlations", note, f'<div class="charts">{"".join(figures)}</div>')


def _spectrum(name: str, comparison: Partners, role: str, depth: float) -> tuple[Line, Line]:
    n = comparison.identity.size
    index = np.unique(np.linspace(0, n - 1, MOST_POINTS).round().astype(int))
    share = index / max(n - 1, 1)
    colour = f"color-mix(in oklab, {role_colour(role)} {100 - 55 * depth:.0f}%, var(--ink))"
    unmoved, moved = (np.sort(values)[::-1][index] for values in (comparison.identity, comparison.solution))
    return (
        Line(share, unmoved, "var(--still)", f"{name}, unmoved", dashed=True),
        Line(share, moved, colour, f"{name}, moved"),
    )
