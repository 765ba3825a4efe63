"""The sections of `docs/benchmarks.md` on what all kinds cost, and on what is best for the demo's two encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

from table_cells import percent, seconds, table

COST = """## What do all kinds cost?

    python benchmarks/kinds_cost.py

Deriving on meta, and matching two models of random weights without data: processor seconds with permutations alone and
with all kinds, taken in turns in one process, the least of {repeats} derivations and one search. *Folding* the norms of
both models comes before matching in all kinds, and is not in its seconds. torch {torch}.
"""
DEMO = """## Which alignment is best for the demo's two encoders?

    python -m benchmarks.demo_ways

Accuracy of the demo's probes on the linear merge, by how B (music) is moved. The clips that it is matched or learned on
have no labels. A score is **bold** where it differs from that of permutations by more than {notable:g} standard errors.
"""
KEPT = ", so the demo keeps to these"


def kinds_cost_section(data: Mapping[str, Any]) -> Iterator[str]:
    """A row for each model: seconds of both, and their ratio."""
    yield COST.format(torch=data["torch"], repeats=data["rows"][0]["repeats"])
    head = (
        "model",
        "derive, permutations, s",
        "all kinds, s",
        "ratio",
        "match, permutations, s",
        "all kinds, s",
        "ratio",
    )
    yield table((*head, "folding, s"), [_cost_row(row) for row in data["rows"]])


def _cost_row(row: Mapping[str, Any]) -> list[str]:
    cells = [row["model"]]
    for what in ("derive", "match"):
        alone, every = row[f"{what}_permutation"], row[f"{what}_all"]
        cells += [seconds(alone), seconds(every), f"{every / alone:.2f}"]
    return [*cells, seconds(row["match_folding"])]


def demo_ways_section(data: Mapping[str, Any]) -> Iterator[str]:
    """A row for each way, with the scores at each share of A, and whether any is better than permutations."""
    yield DEMO.format(**data)
    rows = {row["way"]: row for row in data["rows"]}
    known, (first, *_) = rows["permutations"], data["rows"]
    columns = [(weight, probe) for weight, scores in first["scores"].items() for probe in scores]
    head = ("B moved by", "seconds", *(f"{probe}, {weight} A" for weight, probe in columns))
    lines = []
    for row in data["rows"]:
        cells = [_score(row, known, data, *column) for column in columns]
        lines.append([row["way"], seconds(row["seconds"]), *cells])
    yield table(head, lines)
    kinds = [row for row in data["rows"] if row["way"].startswith("all kinds")]
    found = [_differs(row, known, data, *column) for row in kinds for column in columns]
    told = sum(found)
    yield (
        f"Of {len(found)} scores with all kinds, {told or 'none'} can be told from that with permutations"
        f"{'' if told else KEPT}. "
        "The norms of these encoders follow the sums, so that their streams are permuted in all kinds too.\n"
    )


def _score(row: Mapping[str, Any], known: Mapping[str, Any], data: Mapping[str, Any], weight: str, probe: str) -> str:
    text = percent(row["scores"][weight][probe])
    return f"**{text}**" if _differs(row, known, data, weight, probe) else text


def _differs(
    row: Mapping[str, Any], known: Mapping[str, Any], data: Mapping[str, Any], weight: str, probe: str
) -> bool:
    x, y = row["scores"][weight][probe], known["scores"][weight][probe]
    error = sqrt((x * (1 - x) + y * (1 - y)) / data["tested"][probe])
    return bool(abs(x - y) > data["notable"] * error)
