"""Writes the pages of figures in `docs` from `benchmarks/results/*.json`; every number comes from there.

`--check` writes nothing and exits with 1 where a page is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from math import isclose, nan
from pathlib import Path
from typing import Any

from matching_tables import (
    full_size_section,
    large_pairs_section,
    planted_section,
    precision_section,
)
from scale_tables import assignments_section, streaming_section
from table_cells import DASH, order, percent, seconds, table, yes
from unit_tables import removal_section, sparsity_section
from user_tables import first_steps_section, mergekit_section

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OUTCOMES = ("right", "right, moves nothing", "wrong", "crashed", "timeout", "not expressible", "not installed")


# The zoo

ZOO = """# The zoo

    python benchmarks/zoo_table.py   # measures
    python benchmarks/tables.py      # writes this page
"""
ZOO_WORDS = """\
Every model of `tests/zoo.py`. The *order* of a group G of permutations is given as log10 |G|; *expected* is the order
worked out by hand from the architecture, never read off the program. *Moved* is the share of the parameter elements
that some permutation moves; the last column says what holds most of the rest, with its share of all parameter
elements. *Certified*: the eager model itself, in float64 with generic parameters, keeps its function under random
elements of the group. *Weights*, *correlation*: alignment by it brings back, to the last bit, a copy in which a
random element was planted. *Export* is `torch.export` alone, *derive* contains it; both in seconds on {threads}
thread, after one export, measured once: single rows are noisy, `benchmarks/scaling.py` is not.
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
        "whole group that was worked out by hand.\nAn alignment brings back, to the last bit, what was planted in a "
        f"copy {by}.\n"
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


# Benchmarks

BENCHMARKS = """# Benchmarks

    python benchmarks/tables.py      # writes this page from benchmarks/results/*.json

Each section begins with the command that measures it. Times are of the machine they ran on; compare within a table.
"""


def benchmarks_page(results: dict[str, Any]) -> Iterator[str]:
    """A section for each result that is there."""
    yield BENCHMARKS
    for name, section in SECTIONS.items():
        if name in results:
            yield from section(results[name])


PEERS = """## Do the groups keep the function, and do they move anything?

    pip install --no-deps --target DIR rebasin==0.0.47 torch-pruning==1.6.1 torchview graphviz
    python benchmarks/peers/run.py --peers DIR

All models of the [zoo](zoo.md) whose outputs are fixed, but for one of more than 8192 units. Every tool derives its own
groups for the same float64 model with generic parameters; random elements are applied and the outputs compared. *Share*
is log10 of the order of its groups over the largest known, by hand or by any tool that is right, where the outcome is
right: a tool can be right and know a part of the group. *Right, moves nothing* is kept for models where something could
move. rebasin's permutations are those that it would solve for. Torch-Pruning is made to remove channels, not to permute
them: the sets of positions that go with each channel move onto each other, *not expressible* where they do not fit; it
is not told the number of heads, which a user has to know. {timeout} s of processor time at most; seconds are processor
time of deriving, where groups came. *Wrong (statistics)*: wrong, but right where all running means are 0 and variances
1; the statistics of a norm stay behind, and can be computed anew. {versions}.
"""


def peers_section(data: dict[str, Any]) -> Iterator[str]:
    """Counts of outcomes, and a row for each model."""
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    yield PEERS.format(timeout=data["timeout"], versions=versions)
    tools = list(data["rows"][0]["tools"])
    counts = {tool: Counter(row["tools"][tool]["outcome"] for row in data["rows"]) for tool in tools}
    kept = [outcome for outcome in OUTCOMES if any(counts[tool][outcome] for tool in tools)]
    yield table(
        ["of " + str(len(data["rows"])), *kept, "whole group", "seconds"], [_counts(data, t, kept) for t in tools]
    )
    head = ["model", "largest order", *[f"{tool}{what}" for tool in tools for what in (": outcome", ": share", ": s")]]
    yield table(head, [_peer_row(row) for row in data["rows"]])
    yield "Why, where a tool gave no groups:\n"
    yield (
        "".join(
            f"- {row['name']}, {tool}: {one['outcome']}, {one['reason']}\n"
            for row in data["rows"]
            for tool, one in row["tools"].items()
            if one.get("reason")
        )
        or "- nowhere\n"
    )


def _counts(data: dict[str, Any], tool: str, kept: list[str]) -> list[str]:
    ones = [(row, row["tools"][tool]) for row in data["rows"]]
    counts = Counter(one["outcome"] for _, one in ones)
    statistics = sum(one.get("statistics_only", False) for _, one in ones)
    cells = [
        str(counts[outcome]) + f" ({statistics} by statistics)" * (outcome == "wrong" and statistics > 0)
        for outcome in kept
    ]
    whole = sum(isclose(_share(row, one), 1, rel_tol=1e-6) for row, one in ones)
    taken = sum(one.get("seconds") or 0 for _, one in ones)
    return [tool, *cells, str(whole), seconds(taken)]


def _share(row: dict[str, Any], one: dict[str, Any]) -> float:
    """Of the largest order known; not a number where the outcome is not right."""
    if not one["outcome"].startswith("right"):
        return nan
    return one["log10_order"] / row["log10_largest"] if row["log10_largest"] else 1.0


def _peer_row(row: dict[str, Any]) -> list[str]:
    cells = [row["name"], order(row["log10_largest"])]
    for one in row["tools"].values():
        outcome = one["outcome"] + " (statistics)" * one.get("statistics_only", False)
        text = f"**{outcome}**" if one["outcome"] == "wrong" else outcome
        cells += [text, percent(_share(row, one)), seconds(one.get("seconds"))]
    return cells


SCALING = """## What does a derivation add to `torch.export`, and how does it grow with depth and unrolled steps?

    python benchmarks/scaling.py

All on meta, {threads} thread, torch {torch}; each measurement in a process of its own, seconds of processor
time, the least of {repeat} repetitions. *Before* is the peak of the process when the clock starts: interpreter and
libraries.
"""


def scaling_section(data: dict[str, Any]) -> Iterator[str]:
    """A row for each model."""
    yield SCALING.format(repeat=data["rows"][0]["repeat"], **data)
    head = ("model", "parameters", "nodes", "groups", "order", "export, s", "derive, s", "ratio", "before, MB")
    head = (*head, "peak of export, MB", "peak of derive, MB")
    yield table(head, [_scaling_row(row) for row in data["rows"]])


def _scaling_row(row: dict[str, Any]) -> list[str]:
    integers = [f"{row[key]:,}" for key in ("parameters", "nodes", "groups")]
    times = [seconds(row["export_seconds"]), seconds(row["derive_seconds"]), f"{row['ratio']:.2f}"]
    sizes = [str(row[key]) for key in ("before_mb", "export_peak_mb", "derive_peak_mb")]
    return [row["name"], *integers, order(row["log10_order"]), *times, *sizes]


SECTIONS = {
    "peers": peers_section,
    "scaling": scaling_section,
    "full_size": full_size_section,
    "precision": precision_section,
    "planted": planted_section,
    "first_steps": partial(first_steps_section, table=table),
    "mergekit": partial(mergekit_section, table=table),
    "large_pairs": large_pairs_section,
    "assignments": assignments_section,
    "streaming": streaming_section,
    "removal": removal_section,
    "sparsity": sparsity_section,
}


def pages() -> dict[Path, str]:
    """Path -> text of every page whose results are there."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    found = {ROOT / "docs" / "benchmarks.md": "\n".join(benchmarks_page(results))}
    if "zoo" in results:
        found[ROOT / "docs" / "zoo.md"] = "\n".join(zoo_page(results["zoo"]))
    if "sweep" in results:
        from sweep.page import sweep_page

        found[ROOT / "docs" / "sweep.md"] = "\n".join(sweep_page(results["sweep"], table))
    if "mappings" in results:
        from mappings_page import mappings_page

        found[ROOT / "docs" / "mappings-compared.md"] = "\n".join(mappings_page(results["mappings"], table))
    from merging_pages import merging_pages  # it draws its tables with ours

    found |= {ROOT / "docs" / name: text for name, text in merging_pages(results).items()}
    return {path: commands_last(text) for path, text in found.items()} | {ROOT / "README.md": readme(results)}


def commands_last(page: str) -> str:
    """The page with the commands that measure it, which stand below its title, at its end: the finding comes first."""
    title, empty, rest = page.partition("\n\n")
    commands, more, text = rest.partition("\n\n")
    if not more or not all(line.startswith("    ") for line in commands.splitlines()):
        return page
    return f"{title}{empty}{text.rstrip()}\n\n## Measured by\n\n{commands}\n"


def readme(results: dict[str, Any]) -> str:
    """The README with its table of transformers as measured; all else in it is written by hand."""
    from kinds_page import kinds_results, narrow, summary

    text = (ROOT / "README.md").read_text()
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    kinds = narrow(kinds_results(results))
    return f"{before}{MARKS[0]}\n\n{summary(kinds) if kinds else ''}\n{MARKS[1]}{after}"


MARKS = "<!-- made by benchmarks/tables.py -->", "<!-- until here -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is stale")
    options = parser.parse_args()
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if options.check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"stale: {names}; run python benchmarks/tables.py")
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path])


if __name__ == "__main__":
    main()
