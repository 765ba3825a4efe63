"""An alignment in words: what each group gained, equal layers folded into one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from permgraph.symmetry.elements_report import html_table, moved_share, text_table
from permgraph.symmetry.folded_names import fold

if TYPE_CHECKING:
    from permgraph.matching.align import Alignment

UNITS = {
    "correlation": "mean correlation of matched units",
    "weights": "inner product of weights",
    "mix": "inner product of weights and correlation of units, as a share of the most there can be",
}
HEAD = ("group", "role", "unmoved", "aligned", "gained", "moved")
Row = tuple[str, str, str, str, str, str]


def unit_of(alignment: Alignment) -> str:
    """What the figures of its gains are."""
    return UNITS.get(alignment.method, "objective of the matcher")


def gain_rows(alignment: Alignment) -> list[Row]:
    """(groups, role, objective at the identity, at the solution, gained, share of units moved), means over layers."""
    rows = []
    for pattern, names in fold(alignment.gains):
        gains = [alignment.gains[name] for name in names]
        before, after = (float(np.mean([getattr(g, end) for g in gains])) for end in ("identity", "solution"))
        share = moved_share(alignment.permutations, names)
        role = alignment.spec[names[0]].role
        rows.append((pattern, role, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}", f"{share:.1%}"))
    return rows


def headline(alignment: Alignment) -> str:
    """One line: groups, method, how much moved, and the proof."""
    moved, proof = moved_share(alignment.permutations, alignment.permutations), alignment.certificate
    return f"{len(alignment.spec.groups)} groups by {alignment.method}, {moved:.1%} of units moved; {proof}"


def text(alignment: Alignment) -> str:
    """An alignment on one screen."""
    told = "".join(f"\n{line}" for line in _notes(alignment))
    return f"{headline(alignment)}{told}\n\n{unit_of(alignment)}:\n{text_table(HEAD, gain_rows(alignment))}"


def html(alignment: Alignment) -> str:
    """An alignment for notebooks."""
    title = ". ".join([headline(alignment), *_notes(alignment), f"Figures: {unit_of(alignment)}."])
    return html_table(title, HEAD, gain_rows(alignment))


def _notes(alignment: Alignment) -> list[str]:
    """What is to be known before the figures are read: how the models were fitted, and that they are relatives."""
    return [*str(alignment.borders).splitlines(), *([] if alignment.related is None else [str(alignment.related)])]
