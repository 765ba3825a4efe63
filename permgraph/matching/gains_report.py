"""An alignment as text: what each group gained, with similar layers in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.report import moved_share, text_table

if TYPE_CHECKING:
    from permgraph.matching.alignment import Alignment

UNITS = {
    "correlation": "mean correlation of matched units",
    "weights": "inner product of matched weights, as a share of the bound that no permutation can pass",
    "mix": "inner product of matched weights and correlation of matched units, mixed, as a share of their bound",
}
OTHER_UNIT = "objective of the matcher, as a share of its bound"
HEAD = ("group", "role", "unmoved", "aligned", "gained", "moved")
Row = tuple[str, str, str, str, str, str]


def unit_of(alignment: Alignment) -> str:
    """The unit of the gains' figures, in words."""
    return UNITS.get(alignment.method, OTHER_UNIT)


def figures_of(alignment: Alignment, group: str) -> tuple[float, float]:
    """The figures of a group before and after moving, in that unit."""
    gain = alignment.gains[group]
    return (gain.identity, gain.solution) if alignment.method == "correlation" else gain.shares


def gain_rows(alignment: Alignment) -> list[Row]:
    """(groups, role, objective at the identity, at the solution, gained, share of units moved), means over layers."""
    rows = []
    for pattern, names in fold(alignment.gains):
        before, after = map(float, np.mean([figures_of(alignment, name) for name in names], axis=0))
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
    told = "".join(f"\n{line}" for line in notes(alignment))
    table = f"\n\n{unit_of(alignment)}:\n{text_table(HEAD, gain_rows(alignment))}" if alignment.gains else ""
    return f"{headline(alignment)}{told}{table}"


def notes(alignment: Alignment) -> list[str]:
    """Remarks to read before the figures: how the models were fitted, and whether they are relatives."""
    return [*str(alignment.borders).splitlines(), *([] if alignment.related is None else [str(alignment.related)])]
