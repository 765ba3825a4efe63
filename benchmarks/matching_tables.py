"""The sections of `docs/benchmarks.md` on matching: where time and memory go, which precision, what is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from table_cells import DASH, figures, percent, seconds, table, yes

FULL = """## Where does the time of a HuBERT-base pair go?

    python benchmarks/full_size.py

Two models with random weights, a planted element, {audio_seconds:g} s of audio; threads: {threads}, torch {torch}.
"""


def full_size_section(data: dict[str, Any]) -> Iterator[str]:
    """Stages, then the other figures."""
    yield FULL.format(**data)
    rows = [
        [stage, seconds(one["seconds"]), seconds(one.get("cpu_seconds")), f"{one['peak_mb']:.0f}"]
        for stage, one in data["stages"].items()
    ]
    yield table(("stage", "seconds", "CPU s", "peak, MB"), rows)
    yield figures(data, ("stages", "audio_seconds", "threads", "torch"))


PLANTED = """## Is a planted element found by weights alone?

    python benchmarks/planted.py --peers DIR

B is A with noise (in units of the deviation of the weights), its units in random order. *Pairs*: fully recovered;
*units*: the share of the units that were recovered. {threads} thread, torch {torch}. *rebasin* 0.0.47 has its own
groups; seconds are CPU seconds, for rebasin including the start of a process.
"""
SIZE = ("blocks", "width", "hidden", "noise")


def planted_section(data: dict[str, Any]) -> Iterator[str]:
    """A row a size and noise."""
    yield PLANTED.format(**data)
    rows = data.get("residual_mlp", [])
    if rows:
        searches = [key for key, value in rows[0].items() if isinstance(value, dict)]
        head = [f"{s.replace('_', ' ')}: {what}" for s in searches for what in ("pairs", "units", "CPU s")]
        yield table([*SIZE, *head], [_planted_row(row, searches) for row in rows])
        failures = {why for row in rows for search in searches for why in row[search].get("failures", ())}
        yield "".join(f"- no answer: {why}\n" for why in sorted(failures))


def _planted_row(row: dict[str, Any], searches: list[str]) -> list[str]:
    cells = [f"{row[key]:g}" for key in SIZE]
    for search in searches:
        one = row[search]
        units = DASH if one["units"] is None else percent(one["units"])
        cells += [f"{one['recovered']} of {row['pairs']}", units, seconds(one["seconds"])]
    return cells


LARGE = """## What does weight matching cost at full size?

    python benchmarks/large_pairs.py

Random weights; B is A with its units in random order, with or without noise, or drawn anew (*unrelated*: there is
nothing to find, so the search is longest). One thread, CPU seconds, since the machine was busy. *Sweeps*: this time
divided by the time of the products of one exact sweep, at the rate of a 1024 × 1024 product of the same run. *Memory*:
the two models and what matching adds, in units of the two models. *Recovered*: the share of the units that were
recovered. torch {torch}.
"""
LARGE_COLUMNS = ("model", "pair", "CPU s", "sweeps", "memory", "recovered", "F over bound", "steps", "fixed point")


def large_pairs_section(data: dict[str, Any]) -> Iterator[str]:
    """A row a model and kind of pair; rebasin beside where it was run."""
    yield LARGE.format(**data)
    peers = [row for row in data["rows"] if "rebasin" in row]
    head = (*LARGE_COLUMNS, "rebasin, CPU s") if peers else LARGE_COLUMNS
    yield table(head, [_large_row(row, bool(peers)) for row in data["rows"]])


def _large_row(row: dict[str, Any], peers: bool) -> list[str]:
    cells = [row["model"], row["pair"], f"{row['cpu_seconds']:.1f}", f"{row['sweeps']:.1f}"]
    cells += [f"{1 + row['memory_added_over_models']:.2f}"]
    cells += [DASH if row["recovered"] is None else percent(row["recovered"]), f"{row['objective_over_bound']:.3f}"]
    cells += [str(row["steps"]), yes(row["fixed_point"])]
    taken = row.get("rebasin_cpu_seconds")
    return [*cells, row.get("rebasin", DASH) if taken is None else f"{taken:.1f}"] if peers else cells


PRECISION = """## Which precision do the products need?

    python benchmarks/precision.py

HuBERT-base, random weights, one thread, torch {torch}. *By correlation*: activations on {audio:g} s of real audio, with
all precisions in the same run, so that only the products differ; CPU seconds are those of the moments. *By weights*:
one sweep of all families, each with the others held; CPU seconds are those of its products. *As float64*: the share of
the units that are assigned as with products in float64. *Given up*: the loss of objective, computed in float64.
*Recovered*: the share of the units that were recovered. *bfloat16, float32 sums* rounds both factors and multiplies in
float32: it shows what hardware with such products finds, not what it costs. *bfloat16 of this CPU* is `torch.mm`, which
also rounds the sum over 1024 frames. Moments are computed in float32, {verdict}.
"""


def precision_section(data: dict[str, Any]) -> Iterator[str]:
    """A row a pair, a method and a way."""
    every = [(row, method, one) for row in data["rows"] for method in ("correlation", "weights") for one in row[method]]
    least = min(one["as_float64"] for _, method, one in every if one["way"] == "float32" and method == "correlation")
    rest = min(one["as_float64"] for _, method, one in every if one["way"].startswith("bf") and method == "correlation")
    verdict = f"which assigns at least {least:.3%} of the units of each pair as float64 does (bfloat16: {rest:.2%})"
    yield PRECISION.format(torch=data["torch"], audio=data["rows"][0]["audio_seconds"], verdict=verdict)
    head = ("pair", "by", "products in", "CPU s", "as float64", "given up", "recovered")
    yield table(head, [_precision_row(row["pair"], method, one) for row, method, one in every])


def _precision_row(pair: str, method: str, one: dict[str, Any]) -> list[str]:
    recovered = DASH if one["recovered"] is None else f"{one['recovered']:.2%}"
    cells = [f"{one['cpu_seconds']:.1f}", f"{one['as_float64']:.3%}", f"{max(one['given_up'], 0):.0e}", recovered]
    return [pair, method, one["way"], *cells]
