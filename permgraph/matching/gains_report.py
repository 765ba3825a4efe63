"""An alignment as text: what each group gained, with similar layers in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from permgraph.matching.gains import CORRELATION, MIX, WEIGHTS
from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.report import counted, moved_share, text_table

if TYPE_CHECKING:
    from permgraph.matching.alignment import Alignment

UNITS = {
    CORRELATION: "mean correlation of matched units",
    WEIGHTS: "inner product of matched weights, as a share of its upper bound",
    MIX: "inner product of matched weights and correlation of matched units, mixed, as a share of their upper bound",
}
OTHER_UNIT = "objective of the matcher, as a share of its upper bound"
BY = {"learned": "learning", "mix": "weights and correlation mixed"}
"""Methods whose names do not follow "by"."""
HEAD = ("group", "role", "unmoved", "aligned", "gained", "moved")
Row = tuple[str, str, str, str, str, str]


def by(method: str) -> str:
    """What a method matches by."""
    return BY.get(method, method)


def unit_of(alignment: Alignment) -> str:
    """The unit of the gains' figures, in words; of rows with a mark, the unit that the mark stands for."""
    units = [UNITS.get(measure, OTHER_UNIT) for measure in _measures(alignment)] or [OTHER_UNIT]
    return "; ".join([units[0], *(f"{'*' * k}: {unit}" for k, unit in enumerate(units) if k)])


def rows_of(alignment: Alignment) -> list[tuple[str, tuple[str, ...]]]:
    """(pattern, groups) of each row: groups of similar layers that have one unit, with the mark of that unit."""
    return [
        (f"{pattern} {'*' * k}".rstrip(), tuple(names))
        for k, own in enumerate(_measures(alignment).values())
        for pattern, names in fold(own)
    ]


def _measures(alignment: Alignment) -> dict[str, list[str]]:
    """Measure -> the groups that have it: the one that the method is called after first, then as they occur."""
    found: dict[str, list[str]] = {}
    for name, gain in alignment.gains.items():
        found.setdefault(gain.measure, []).append(name)
    return {measure: found[measure] for measure in sorted(found, key=lambda measure: measure != alignment.method)}


def gain_rows(alignment: Alignment) -> list[Row]:
    """(groups, role, objective at the identity, at the solution, gained, share of units moved), means over layers."""
    rows = []
    for pattern, names in rows_of(alignment):
        before, after = map(float, np.mean([alignment.gains[name].shares for name in names], axis=0))
        share = moved_share(alignment.permutations, names)
        role = alignment.spec[names[0]].role
        rows.append((pattern, role, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}", f"{share:.1%}"))
    return rows


def headline(alignment: Alignment) -> str:
    """One line: groups, method, how much moved, and the proof."""
    moved, proof = moved_share(alignment.permutations, alignment.permutations), alignment.certificate
    return (
        f"{counted(len(alignment.spec.groups), 'group')} by {by(alignment.method)}, {moved:.1%} of units moved; {proof}"
    )


def text(alignment: Alignment) -> str:
    """An alignment on one screen."""
    told = "".join(f"\n{line}" for line in notes(alignment))
    table = f"\n\n{unit_of(alignment)}:\n{text_table(HEAD, gain_rows(alignment))}" if alignment.gains else ""
    return f"{headline(alignment)}{told}{table}"


def notes(alignment: Alignment) -> list[str]:
    """Remarks to read before the figures: how the models were fitted, and whether they are relatives."""
    return [*str(alignment.borders).splitlines(), *([] if alignment.related is None else [str(alignment.related)])]
