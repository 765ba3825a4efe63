"""One sentence on what each section of the page of benchmarks found, made from its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Data = Mapping[str, Any]


def findings(results: Mapping[str, Data]) -> Iterator[str]:
    """A list item for each result that is there."""
    for name, finding in FINDINGS.items():
        if name in results:
            yield f"- {finding(results[name])}"


def _peers(data: Data) -> str:
    def outcomes(tool: str) -> list[str]:
        return [row["tools"][tool]["outcome"] for row in data["rows"]]

    tools = list(data["rows"][0]["tools"])
    right = ", ".join(f"{t} {sum(o.startswith('right') for o in outcomes(t))}" for t in tools)
    wrong = ", ".join(f"{t} {outcomes(t).count('wrong')}" for t in tools)
    return f"**Groups** that keep the function, of {len(data['rows'])} models: {right}; that change it: {wrong}."


def _scaling(data: Data) -> str:
    ratios = [row["derive_seconds"] / row["export_seconds"] for row in data["rows"]]
    return (
        f"**Deriving** takes {min(ratios):.1f} to {max(ratios):.1f} times as long as the export that it includes; "
        f"{_longest(data['rows'])}."
    )


def _longest(rows: list[Data]) -> str:
    last = max(rows, key=lambda row: row["parameters"])
    return f"{last['name']}, from its config alone: {last['derive_seconds']:.1f} s"


def _kinds_cost(data: Data) -> str:
    derive, match = (
        [row[f"{step}_all"] / row[f"{step}_permutation"] for row in data["rows"]] for step in ("derive", "match")
    )
    return f"**All kinds** take up to {max(derive):.1f} times as long to derive and {max(match):.1f} times to match."


def _planted(data: Data) -> str:
    rows, count = data["residual_mlp"], sum(row["pairs"] for row in data["residual_mlp"])
    names = {key: key.replace("_", " ") for key, value in rows[0].items() if isinstance(value, dict)}
    names |= {"frank_wolfe": "Frank-Wolfe"}
    found = ", ".join(f"{name} {sum(row[key]['recovered'] for row in rows)}" for key, name in names.items())
    return f"**A planted permutation**, also under noise, is recovered by weights alone, of {count} pairs: {found}."


def _large_pairs(data: Data) -> str:
    most = max(data["rows"], key=lambda row: row["cpu_seconds"])
    taken = f"{most['cpu_seconds']:.0f} s ({most['model']})"
    return f"**Matching by weights** at full size takes at most {taken}, on one thread."


def _assignments(data: Data) -> str:
    times = [
        next(value for name, value in row["seconds"].items() if name.startswith("scipy")) / row["seconds"]["permgraph"]
        for row in data["rows"]
    ]
    missed = max(row["missed"]["permgraph"] for row in data["rows"])
    return (
        f"**Assignments** of 2,048 units and more are solved {min(times):.1f} to {max(times):.1f} times as fast as by "
        f"scipy, and {'to the same optimum' if missed == 0 else f'below the optimum by at most {missed:.0e} of it'}."
    )


def _comparing(data: Data) -> str:
    told = "; ".join(f"{row['name']}: *{row['verdict']}*" for row in data["rows"])
    most = max(row["seconds"] for row in data["rows"])
    return f"**Comparing** BERT-base with another takes at most {most:.0f} s. {told}."


def _streaming(data: Data) -> str:
    most = max(data["rows"], key=lambda row: (row["parameters"], row["cpu_seconds"]))
    return (
        f"**Merging within {most['memory']}**: the largest pair measured, {most['name']}, peaks at "
        f"{most['peak_mb'] * 2**20 / 1e9:.1f} GB."
    )


def _removal(data: Data) -> str:
    right = [sum(row[t]["outcome"] == "right" for row in data["rows"]) for t in ("permgraph", "torch_pruning")]
    count = f"{right[0]} of {len(data['rows'])} models"
    return f"**Removing units** leaves the rest right in {count} by `spec.remove`, in {right[1]} by Torch-Pruning."


FINDINGS: Mapping[str, Callable[[Data], str]] = {
    "peers": _peers,
    "scaling": _scaling,
    "kinds_cost": _kinds_cost,
    "planted": _planted,
    "large_pairs": _large_pairs,
    "assignments": _assignments,
    "comparing": _comparing,
    "streaming": _streaming,
    "removal": _removal,
}
