"""The page of the zoo: every model of `tests/zoo.py` with its group, its proof and what alignment brings back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from table_cells import DASH, order, percent, seconds, table, yes

ZOO = """# The zoo

    python benchmarks/zoo_table.py   # measures
    python benchmarks/tables.py      # writes this page
"""
ZOO_WORDS = """\
Every model of `tests/zoo.py`. The *order* of a group G of permutations is given as log10 |G|; *expected* is the order
worked out by hand from the architecture, never read off the program. *Moved* is the share of the parameter elements
that some permutation moves; the last column says what pins most of the rest, with its share of all parameter elements.
*Certified*: the eager model itself, in float64 with generic parameters, keeps its function under random elements of the
group. *Weights*, *correlation*: alignment by this method recovers, to the last bit, a model from a copy moved by a
random element. *Export* is `torch.export` alone, *derive* includes it; both in seconds on {threads} thread, after one
export, measured once: single rows are noisy, `benchmarks/scaling.py` is not.
torch {torch}, transformers {transformers}.
"""


RECOVERED = ("weights", "correlation")


def zoo_page(data: dict[str, Any]) -> Iterator[str]:
    """Summary, a table for each family, gaps."""
    yield ZOO
    families: dict[str, list[dict[str, Any]]] = data["families"]
    every = [row for rows in families.values() for row in rows]
    yield _zoo_finding([row for row in every if "failure" not in row])
    yield ZOO_WORDS.format(**data)
    head = ("family", "models", "whole group", "certified", "weights", "correlation", "largest error")
    head += ("export, s", "derive, s", "ratio")
    yield table(head, [_family(name, rows) for name, rows in [*families.items(), ("all", every)]])
    for name, rows in families.items():
        yield f"## {name}\n"
        head = (
            "model",
            "parameters",
            "groups",
            "order",
            "expected",
            "moved",
            "certified",
            "weights",
            "correlation",
            "export",
            "derive",
            "held by",
        )
        yield table(head, [_zoo_row(row) for row in rows])
    yield "## Known gaps\n"
    gaps = [row for row in every if row.get("known_gap") or "failure" in row or not row["whole_group"]]
    yield "".join(f"- {_gap(row)}\n" for row in gaps) or "None.\n"


def _zoo_finding(rows: list[dict[str, Any]]) -> str:
    whole, certified = (sum(row[key] for row in rows) for key in ("whole_group", "certified"))
    by = ", ".join(f"for {sum(row['recovered'][method] for row in rows)} by {method}" for method in RECOVERED)
    return (
        f"Of {len(rows)} models, {certified} keep their function under the derived group, and for {whole} it is the "
        "whole group that was worked out by hand.\nAn alignment recovers, to the last bit, a model from a copy "
        f"moved by a random element {by}.\n"
    )


def _family(name: str, rows: list[dict[str, Any]]) -> list[str]:
    done = [row for row in rows if "failure" not in row]
    export, derive = (sum(row[f"{stage}_seconds"] for row in done) for stage in ("export", "derive"))
    counts = [len(rows), sum(row["whole_group"] for row in done), sum(row["certified"] for row in done)]
    counts += [sum(row["recovered"][method] for row in done) for method in RECOVERED]
    worst = max((row["error"] for row in done), default=0.0)
    ratio = f"{derive / export:.2f}" if export else DASH
    return [name, *map(str, counts), f"{worst:.0e}", f"{export:.1f}", f"{derive:.1f}", ratio]


def _zoo_row(row: dict[str, Any]) -> list[str]:
    if "failure" in row:
        return [row["name"], *[DASH] * 10, row["failure"]]
    orders = (order(row["log10_order"]), order(row["log10_expected"]))
    return [
        row["name"],
        f"{row['parameters']:,}",
        str(row["groups"]),
        orders[0] if row["whole_group"] else f"**{orders[0]}**",
        orders[1],
        percent(row["coverage"]),
        yes(row["certified"]),
        *(yes(row["recovered"][method]) for method in RECOVERED),
        seconds(row["export_seconds"]),
        seconds(row["derive_seconds"]),
        "; ".join(f"{reason} ({percent(share)})" for reason, share in row["pins"]),
    ]


def _gap(row: dict[str, Any]) -> str:
    if "failure" in row:
        return f"{row['name']}: {row['failure']}"
    orders = f"order {order(row['log10_order'])} of {order(row['log10_expected'])}"
    return f"{row['name']} ({orders}): {row['known_gap'] or 'not known before'}"
