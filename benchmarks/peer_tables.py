"""Section of the page of benchmarks: the groups that permgraph and other tools derive for the models of the zoo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import isclose, nan
from typing import Any

from table_cells import order, percent, seconds, table

OUTCOMES = ("right", "right, moves nothing", "wrong", "crashed", "timeout", "not expressible", "not installed")

PEERS = """## Do the groups keep the function, and do they move anything?

    pip install --no-deps --target DIR rebasin==0.0.47 torch-pruning==1.6.1 torchview graphviz
    python benchmarks/peers/run.py --peers DIR

All models of the [zoo](zoo.md) whose outputs are fixed, except one with more than 8192 units. Every tool derives its
own groups for the same float64 model with generic parameters; random elements are applied and the outputs compared.
*Share*, for outcomes that are right, is log10 of the order of the tool's groups divided by the largest known value, by
hand or by any tool that is right: a tool can be right and know only a part of the group. *Right, moves nothing* is for
models in which something could move. rebasin's permutations are those that it would solve for. Torch-Pruning removes
channels instead of permuting them: here the sets of positions that belong to each channel are moved onto each other,
and the outcome is *not expressible* if they do not match; it is not told the number of heads, which a user has to know.
At most {timeout} s of processor time; seconds are processor time of deriving, if there were groups. *Wrong
(statistics)*: wrong, but right if all running means are 0 and variances 1; the tool does not move the statistics of a
norm, which can be computed anew. {versions}.
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
    """The share of the largest known order; NaN if the outcome is not right."""
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
