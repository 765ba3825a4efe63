"""Sections of the page of benchmarks: what size costs, in derivations, assignments and models larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from table_cells import DASH, order, percent, seconds, table

SCALING = """## What does a derivation add to `torch.export`, and how does it grow with depth and unrolled steps?

    python benchmarks/scaling.py

All on meta, {threads} thread, torch {torch}; each measurement in a separate process, in seconds of processor time, the
minimum of {repeat} repetitions. *Before* is the peak memory of the process when the clock starts: interpreter and
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


ASSIGNMENTS = """## How fast is one large assignment, and is it the optimum?

    pip install --no-deps --target DIR lap      # and another DIR with lapx
    python -m benchmarks.assignments --peers DIR DIR

Correlation matrices of n units. *Noise*: normal numbers. *Planted*: B is A in another order, with noise of the given
number of deviations, over {frames} frames. *Features*: hidden units of two perceptrons trained from different seeds on
Fashion-MNIST, over its test images. Seconds of processor time on one thread, torch {torch}. *Missed*: by how much
permgraph's sum is below the largest sum that any solver found, relative to it; *same*: the share of the units that all
solvers assign alike.
"""


def assignments_section(data: dict[str, Any]) -> Iterator[str]:
    """A row for each matrix."""
    yield ASSIGNMENTS.format(**data)
    solvers = list(data["rows"][0]["seconds"])
    yield table(
        ["matrix", *(f"{name}, s" for name in solvers), "scipy / permgraph", "missed", "same"],
        [_assignment_row(row, solvers) for row in data["rows"]],
    )


def _assignment_row(row: dict[str, Any], solvers: list[str]) -> list[str]:
    taken = [row["seconds"].get(name) for name in solvers]
    scipy = next(row["seconds"][name] for name in solvers if name.startswith("scipy"))
    times = scipy / row["seconds"]["permgraph"]
    last = [f"{times:.1f}", f"{row['missed']['permgraph']:.0e}", percent(min(row["same"].values()))]
    return [row["name"], *map(seconds, taken), *last]


COMPARING = """## How long does a comparison take, and what does it say?

    python benchmarks/comparing.py

`permgraph compare A B` on folders of BERT-base, {parameters:,} parameters with random weights, in a process of its own,
{threads} threads. A *fine-tune* is a few steps of Adam; *moved* is under a random element of all kinds. *Unmoved*,
*aligned*: the cosine of all weights; *distance*: that of B, moved, from A, relative to |A|; *chance*: what weights
without relation reach, where the verdict depends on it. Peak memory: {peak_mb:,} MB.
"""


def comparing_section(data: dict[str, Any]) -> Iterator[str]:
    """A row for each B."""
    yield COMPARING.format(**data)
    head = ("B", "verdict", "p", "unmoved", "aligned", "distance", "chance", "clock, s", "processor, s", "load before")
    yield table(head, [_comparing_row(row) for row in data["rows"]])


def _comparing_row(row: dict[str, Any]) -> list[str]:
    found = [f"{row['p_value']:.3f}", *(f"{row[key]:.4f}" for key in ("unmoved", "aligned"))]
    found += [f"{row['aligned_distance']:.0e}", DASH if row["chance"] is None else f"{row['chance']:.4f}"]
    return [row["name"], row["verdict"], *found, *(f"{row[key]:.0f}" for key in ("seconds", "cpu_seconds", "load"))]


STREAMING = """## What do models cost that do not fit into memory?

    python benchmarks/streaming.py

`permgraph merge A B --max-memory {memory}` of a pair of Llamas in bfloat16, or of mixtures of experts of Qwen3's form,
in shards of 1 GB, with a planted element and noise of a tenth of each tensor's deviation; {threads} thread, torch
{torch}. *Peak*: resident memory of the whole process, including the pages of its files. *CPU*: seconds of processor
time, since the machine was busy. *Copy*: time to copy the files of A and B to the disk. *Recovered*: for permutations,
the share of the units that were recovered. *Reached*: the cosine of A and the moved B; noise alone leaves
0.995.{planned}
"""
PLANNED = """ Rows in italics are not measured: the peak is the planned one, and the time is
{0:.0f} s + {1:.1f} s for each GB of one model + {2:.1f} s for each TFLOP of one exact sweep, fitted to the rows of
permutations by least squares."""
STREAMING_COLUMNS = (
    "size",
    "parameters",
    "widest group",
    "A and B, GB",
    "sweep, TFLOP",
    "peak, GB",
    "CPU, s",
    "copy, s",
)


def streaming_section(data: dict[str, Any]) -> Iterator[str]:
    """A row for each size, then those that are extrapolated."""
    planned = PLANNED.format(*data["extrapolated"][0]["rates"]) if data["extrapolated"] else ""
    yield STREAMING.format(**data["rows"][-1], planned=planned)
    head = (*STREAMING_COLUMNS, "recovered", "reached")
    yield table(head, [_streaming_row(row) for row in (*data["rows"], *data["mixtures"], *data["extrapolated"])])
    if len({row["bytes"] for row in data["rows"]}) > 1:
        yield "![Peak memory and processor time over the size of the files](pictures/streaming.svg)\n"


def _streaming_row(row: dict[str, Any]) -> list[str]:
    measured = "reached" in row
    sizes = [f"{row['parameters']:,}", f"{row['largest']:,}", f"{2 * row['bytes'] / 1e9:.1f}"]
    costs = [f"{row['sweep_flop'] / 1e12:.3g}", f"{row['peak_mb'] * 2**20 / 1e9:.1f}", f"{row['cpu_seconds']:,.0f}"]
    rest = [DASH] * 3
    if measured:
        home = percent(row["recovered"]) if "recovered" in row else DASH
        rest = [f"{row['copy_seconds']:.1f}", home, f"{row['reached']:.4f}"]
    return [row["name"] if measured else f"*{row['name']}*", *sizes, *costs, *rest]


CALIBRATION = """## What does more calibration data cost, and what do two processes save?

    python benchmarks/calibration.py --audio DIR

`permgraph align A B --data DIR` of two small HuBERTs on hours of recordings; {threads} thread, torch {torch}. Where
fewer hours are distinct, the same files were read again under other names. *Peak*: of resident memory. *CPU*: seconds
of processor time.
"""
PROCESSES = """
The moments of two HuBERT-base models on {batches} batches of {windows} windows of {seconds} s, gathered by so many
processes. *CPU* and *clock*: seconds of the slower one; *load*: of the machine, which others used too, as it began.
*Sooner*: the quotient of processor times, which is how much sooner processes are done that have a core each.
"""


def calibration_section(data: dict[str, Any]) -> Iterator[str]:
    """A row for each number of hours, then one for each number of processes."""
    yield CALIBRATION.format(**data)
    yield table(
        ["hours", "distinct", "peak, MB", "CPU, s"],
        [
            [f"{row[key]:.1f}" for key in ("hours", "distinct_hours")]
            + [f"{row['peak_mb']:,}", seconds(row["cpu_seconds"])]
            for row in data.get("hours", ())
        ],
    )
    yield PROCESSES.format(**data)
    rows = data.get("processes", [])
    yield table(
        ["processes", "CPU, s", "clock, s", "load", "sooner"],
        [[str(row["processes"]), *_process_cells(row, rows[0])] for row in rows],
    )


def _process_cells(row: dict[str, Any], first: dict[str, Any]) -> list[str]:
    sooner = first["cpu_seconds"] / row["cpu_seconds"]
    return [seconds(row["cpu_seconds"]), seconds(row["seconds"]), f"{row['load']:.1f}", f"{sooner:.2f}"]
