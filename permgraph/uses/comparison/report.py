"""A comparison in words: the verdict with its evidence, and tables of groups and layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.report import html_table, moved_share, text_table
from permgraph.wording import few

if TYPE_CHECKING:
    from permgraph.uses.comparison.compare import Comparison
    from permgraph.uses.comparison.similarity import Similarity

HEAD = ("cosine", "unmoved", "aligned")
VERDICTS = {
    "same": "the same up to symmetry",
    "related": "related: one was made from the other, or both from one",
    "independent": "independent: no sign of a common origin in the weights",
}


def verdict(comparison: Comparison) -> str:
    """One line."""
    return VERDICTS[comparison.verdict]


def evidence(comparison: Comparison) -> tuple[str, ...]:
    """What the verdict rests on, a sentence each."""
    whole, found = comparison.whole, comparison.alignment
    share = moved_share(found.permutations, found.permutations)
    names = sorted({found.spec[name].kind for name in found.permutations})
    return (
        f"Moved to A, B is at a distance of {whole.aligned_distance:.2g} of |A|, and unmoved of "
        f"{whole.unmoved_distance:.2g}; up to {comparison.tolerance:.1g} is the same.",
        *([f"Not compared, as heads of other shapes: {few(comparison.heads)}."] if comparison.heads else []),
        f"The cosine of all weights is {whole.unmoved:.4f} unmoved and {whole.aligned:.4f} with B moved.",
        f"Where groups act it is {comparison.moved:.4f} with B moved"
        + ("." if comparison.chance is None else f"; weights without relation reach {comparison.chance:.4f}."),
        f"p = {comparison.p_value:.3g}: how often a random permutation of units leaves B as close to A as unmoved.",
        f"{share:.1%} of the units move, in groups of the kinds {', '.join(names) or 'none'}; {found.certificate}.",
        *str(found.borders).splitlines(),
    )


def rows(given: Mapping[str, Similarity]) -> list[tuple[str, float, float]]:
    """(name, mean cosine unmoved, aligned), names that differ only in a number folded."""

    def mean(names: Sequence[str], side: str) -> float:
        return float(np.mean([getattr(given[name], side) for name in names]))

    return [(pattern, mean(names, "unmoved"), mean(names, "aligned")) for pattern, names in fold(given)]


def _cells(given: Mapping[str, Similarity]) -> Sequence[Sequence[str]]:
    return [(name, f"{unmoved:.4f}", f"{aligned:.4f}") for name, unmoved, aligned in rows(given)]


def text(comparison: Comparison) -> str:
    """For a terminal."""
    lines = [verdict(comparison), *(f"  {line}" for line in evidence(comparison))]
    tables = [
        text_table((f"cosine by {name}", *HEAD[1:]), _cells(given))
        for name, given in (("group", comparison.similarity), ("layer", comparison.layers))
        if given
    ]
    return "\n".join([*lines, *(f"\n{table}" for table in tables)])


def html(comparison: Comparison) -> str:
    """For notebooks."""
    return html_table(verdict(comparison), HEAD, _cells(comparison.similarity))
