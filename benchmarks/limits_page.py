"""What stands in the way of a flat merge: the barriers where parts of two models are kept apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pair_means import NAMES, Row, mean_of, shown
from table_cells import DASH, table

LIMITS = """### What stands in the way

    nice python -m benchmarks.pairs.limits                 # measures

A part of the model is *kept apart* instead of merged: both models' layers are computed on the merged stream and the
mean of their outputs is taken, so that nothing is lost because their weights are averaged. The rest is learned anew, in
as many steps as without, and may end higher. *Any matrix*: the stream is moved by a matrix that need not be a rotation,
which changes what B computes. All begin at the alignment by activations, so that the first column may differ from the
tables below.
"""
COLUMNS = {
    "": "all merged",
    "feed-forward": "feed-forward apart",
    "attention": "attention apart",
    "both": "both apart",
    "any matrix": "stream moved by any matrix",
}


def limits(rows: Sequence[Row]) -> Iterator[str]:
    """A row for each architecture, and in words what each part accounts for."""
    yield LIMITS
    lines, said = [], []
    for name in dict.fromkeys(row["architecture"] for row in rows):
        own = {key: [row for row in rows if (row["architecture"], row["apart"]) == (name, key)] for key in COLUMNS}
        pairs = [row["pair"] for row in own[""]]
        whole = {key: here for key, here in own.items() if [row["pair"] for row in here] == pairs}
        cells = [shown(mean_of(whole[key], "height")) if key in whole else DASH for key in COLUMNS]
        lines.append([NAMES[name], *cells, str(len(pairs))])
        said.append(_said(name, {key: mean_of(here, "height")[0] for key, here in whole.items()}))
    yield table(("barrier", *COLUMNS.values(), "pairs"), lines)
    yield "".join(said)


def _said(name: str, heights: dict[str, float]) -> str:
    """How much of the barrier each part accounts for."""
    whole = heights[""]
    gone = [f"{_gone(whole - heights[key])} {what}" for key, what in WITHOUT.items() if key in heights]
    left = f"; {heights['both']:.3f} is left where neither is merged" if "both" in heights else ""
    return f"- {NAMES[name]}: of {whole:.3f}, {', '.join(gone)}{left}.\n" if gone else ""


WITHOUT = {
    "feed-forward": "where feed-forward layers are kept apart",
    "attention": "where attention is kept apart",
    "any matrix": "where the stream may be moved by any matrix",
}


def _gone(part: float) -> str:
    return f"{part:.3f} goes" if part > 0 else "nothing goes"
