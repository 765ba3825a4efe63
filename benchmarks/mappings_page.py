"""The page `docs/mappings-compared.md`, from `benchmarks/results/mappings.json`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from table_cells import table

TOOLS = ("AWQ", "SmoothQuant")
OPEN = ("skipped", "no weight", "not matched", "unused", "packed", "unclear")
PAGE = """# Tables of scales written by hand, and derived ones

    python -m benchmarks.mappings.run   # reads the tables out of the package, measures
    python benchmarks/tables.py          # writes this page

{finding}

{package} has tables of the layers between which AWQ and SmoothQuant move scales, for {named} of the {built} model
classes of transformers {transformers} below, and a default table for all others. Of the {classes} classes that a table
names or that are causal language models, {built} are measured. Each class is built small, with generic weights in
float64 and as many key-value heads as heads. Each pair of layers that a table names is tested: the rows of one layer
are divided, the columns of the others multiplied, and outputs compared. *Equal*: right, and also derived
(`spec.mappings().layers()`). *Ours more*: derived, and in no entry of the table; some are left out of it on purpose.
*Missed*: right, and not derived as a pair of this form. *Wrong*: the function changes. *Not judged*: sizes do not fit
and the tool skips the pair; a layer of the entry has no weight, is not in the model or not used; readers have several
parents, so that the tool's search decides which it combines; or transformers keeps the experts of the layer in one
tensor, which the tool splits first. For a norm that scales by 1 + w, the scale applies to 1 + w, here and in the tool.
"""
OWN = """## Derived, and in no entry of a table of the model's own

The scale of the last norm can move into the head, which tools do not change. A dense layer among layers of experts, or
a norm, has a name that the table does not know. The indexer of sparse attention also reads the norms that the table
gives only to attention; if the input has no more tokens than the indexer selects, as here, the test does not see that.
In AWQ:
"""


def mappings_page(data: dict[str, Any]) -> Iterator[str]:
    """Sums, then what is wrong, what is missed, and every model."""
    rows: dict[str, dict[str, Any]] = {name: row for name, row in data["models"].items() if "failed" not in row}
    named = sum(bool(row["named"]) for row in rows.values())
    yield PAGE.format(**data, built=len(rows), named=named, finding=_finding(rows))
    head = ("table", "models", "equal", "ours more", "missed", "wrong", "not judged")
    groups = [
        (f"{tool}, {how}", tool, [row for row in rows.values() if (tool in row["named"]) == (how == "of its own")])
        for tool in TOOLS
        for how in ("of its own", "by default")
    ]
    yield table(head, [[name, str(len(members)), *_sums(members, tool)] for name, tool, members in groups])
    yield "## Wrong by proof\n"
    yield _lines(rows, "wrong ones")
    yield "## Right, and missed here\n"
    yield _lines(rows, "missed")
    yield OWN
    own = {name: row for name, row in rows.items() if set(row["named"]) == set(TOOLS)}
    yield _lines(
        {name: row for name, row in own.items() if "more ones" in row["tables"]["AWQ"]}, "more ones", TOOLS[:1]
    )
    yield "## All models\n"
    head = ("model", "derived", *(f"{tool}: {what}" for tool in TOOLS for what in ("equal", "ours more", "wrong")))
    yield table(head, [[name, str(row["ours"]), *_cells(row)] for name, row in rows.items()])
    yield "## Not measured\n"
    left = {name: row["failed"] for name, row in data["models"].items() if "failed" in row}
    yield "".join(f"- {name}: {' '.join(why.split())[:160]}\n" for name, why in left.items()) or "None.\n"


def _finding(rows: dict[str, dict[str, Any]]) -> str:
    """What became of all pairs of all tables."""
    sums = [_sums(list(rows.values()), tool) for tool in TOOLS]
    equal, more, missed, wrong, _ = (sum(map(int, each)) for each in zip(*sums, strict=True))
    return (
        f"Of {equal + missed + wrong:,} pairs of layers in tables written by hand that can be judged, {equal:,} are "
        f"right and derived, {missed} are right and not derived, and {wrong} change the function; {more:,} pairs "
        "are derived that no table has."
    )


def _sums(rows: Sequence[dict[str, Any]], tool: str) -> list[str]:
    found: Counter[str] = Counter()
    for row in rows:
        one = row["tables"][tool]
        found += Counter({key: value for key, value in one.items() if isinstance(value, int)})
        found["missed"] += len(one["missed"])
    found["not judged"] = sum(found[name] for name in OPEN)
    names = ("equal", "ours more", "missed", "wrong", "not judged")
    return [str(found[name]) for name in names]


def _cells(row: dict[str, Any]) -> list[str]:
    return [str(row["tables"][tool][what]) for tool in TOOLS for what in ("equal", "ours more", "wrong")]


def _lines(rows: dict[str, dict[str, Any]], what: str, tools: Sequence[str] = TOOLS) -> str:
    """A line for each pair of layers, without layer numbers, with the models that have it."""
    found: dict[str, dict[str, None]] = {}
    for name, row in rows.items():
        for tool in tools:
            for pair in row["tables"][tool][what]:
                short = re.sub(r"(?:[\w.]*?\.)?\d+\.", "", pair)
                found.setdefault(f"{tool}: `{short}`", {})[name] = None
    ordered = sorted(found.items(), key=lambda one: (-len(one[1]), one[0]))
    return "".join(f"- {pair}: {', '.join(names)}\n" for pair, names in ordered) or "None.\n"
