"""The page `docs/sweep.md`, from `benchmarks/results/sweep.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from table_cells import table

OUTCOMES = ("certified", "unsound", "failed", "not traced", "timeout", "not tried", "not built")
PAGE = """# Architectures beyond the zoo

    python benchmarks/sweep/run.py       # measures, continues an interrupted run
    python benchmarks/tables.py          # writes this page
"""
WORDS = """\
Models of transformers (made small by general rules and a table of what single families need), timm and torchvision (as
published, up to 100 million parameters, one to three of each module), with random weights and fixed outputs.
*Certified*: the eager model, in float64 with generic parameters, keeps its function under a random element of the
group; if an operation exists only in single precision, `verify` decides. *Not traced*: `torch.export` refuses the
model. *Timeout*: {seconds} s of processor time, including building and checking. *Not built*: no small model, or no
inputs for it, could be made without writing code for it; this says nothing about permgraph. *Not tried*: the model was
built and runs, but nothing was derived from it yet. *Coverage* is the share of the parameter elements that some group
moves. *In all kinds*: of the certified models that were tried, those whose function is also kept by folding and by a
random element with signs, scales, rotations and invertible maps. Seconds are processor seconds if a row of the JSON
has `export`, the part of `derive` in `torch.export`, else clock seconds.
"""
LEAST = 0.98
MOST = 5  # derive over export
TRACED = ("certified", "unsound", "failed", "timeout")


def sweep_page(data: dict[str, Any]) -> Iterator[str]:
    """Counts by source, then every model that is not certified, or of which less than 98 % moves."""
    rows: dict[str, dict[str, Any]] = data["models"]
    yield PAGE
    yield _finding(rows.values())
    yield WORDS.format(**data)
    sources = sorted({key.partition(":")[0] for key in rows})
    head = ("source", "models", *OUTCOMES, "certified of traced", "in all kinds", "median coverage", "median derive, s")
    yield table(head, [_summary(name, _of(rows, name)) for name in [*sources, "all"]])
    yield "## Not certified\n"
    bad = {key: row for key, row in rows.items() if row["outcome"] not in ("certified", "not tried", "not built")}
    yield "".join(f"- {key}: {row['outcome']}; {_one_line(row)}\n" for key, row in bad.items()) or "None.\n"
    yield "## Certified, but not in all kinds\n"
    lacking = {key: row["all_kinds"] for key, row in rows.items() if _lacks(row)}
    yield "".join(f"- {key}: {row['outcome']}; {_one_line(row)}\n" for key, row in lacking.items()) or "None.\n"
    yield f"## More than {MOST} times the export\n"
    yield _times(rows)
    yield f"## Certified, with less than {LEAST:.0%} moved\n"
    low = {key: row for key, row in rows.items() if row["outcome"] == "certified" and row["coverage"] < LEAST}
    lines = [[key, f"{row['parameters']:,}", f"{row['coverage']:.1%}", _held(row)] for key, row in low.items()]
    yield table(("model", "parameters", "moved", "held by"), lines)
    yield "## Not tried\n"
    yield (", ".join(key for key, row in rows.items() if row["outcome"] == "not tried") or "None.") + "\n"
    yield "## Not built\n"
    yield ", ".join(key for key, row in rows.items() if row["outcome"] == "not built") + "\n"


def _finding(rows: Iterable[dict[str, Any]]) -> str:
    counts = Counter(row["outcome"] for row in rows)
    traced = sum(counts[name] for name in TRACED)
    return (
        f"Of {traced:,} models that are built and traced, {counts['certified']:,} are certified and "
        f"{counts['unsound']} lose their function; {counts['not traced']} are not traced by `torch.export`.\n"
    )


def _of(rows: dict[str, dict[str, Any]], source: str) -> list[dict[str, Any]]:
    return [row for key, row in rows.items() if source in ("all", key.partition(":")[0])]


def _summary(source: str, rows: list[dict[str, Any]]) -> list[str]:
    counts = Counter(row["outcome"] for row in rows)
    derived = [row for row in rows if "coverage" in row]
    traced = sum(counts[name] for name in TRACED)
    return [
        source,
        str(len(rows)),
        *(str(counts[name]) for name in OUTCOMES),
        f"{counts['certified'] / traced:.1%}" if traced else "–",
        _all_kinds(rows),
        f"{median(row['coverage'] for row in derived):.3f}" if derived else "–",
        f"{median(row['seconds'] for row in derived):.1f}" if derived else "–",
    ]


def _all_kinds(rows: list[dict[str, Any]]) -> str:
    tried = [row for row in rows if "all_kinds" in row]
    return f"{sum(not _lacks(row) for row in tried)} of {len(tried)}" if tried else "–"


def _lacks(row: dict[str, Any]) -> bool:
    return row.get("all_kinds", {"outcome": "certified"})["outcome"] != "certified"


def _times(rows: dict[str, dict[str, Any]]) -> str:
    """The models of which `derive` takes more than `MOST` times their export, the worst first."""
    ratios = {key: row["seconds"] / row["export"] for key, row in rows.items() if row.get("export")}
    others = [row["seconds"] for row in rows.values() if "seconds" in row and not row.get("export")]
    if not ratios:
        return "None is timed.\n"
    slow = sorted((key for key, ratio in ratios.items() if ratio > MOST), key=lambda key: -ratios[key])
    head = f"Of {len(ratios)} models timed, {len(slow)}; the median is {median(ratios.values()):.1f}. "
    head += f"The {len(others)} others took at most {max(others):.1f} s together with their export.\n" if others else ""
    return head + "".join(f"\n- {key}: {ratios[key]:.1f}" for key in slow) + ("\n" if slow else "")


def _one_line(row: dict[str, Any]) -> str:
    return " ".join((row.get("why") or row.get("verify") or f"error {row.get('error', 0):.1e}").split())[:300]


def _held(row: dict[str, Any]) -> str:
    return "; ".join(f"{why} ({share:.1%})" for why, share in row["held_by"])
