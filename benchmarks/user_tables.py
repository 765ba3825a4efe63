"""The sections of `docs/benchmarks.md` on what a user meets: the first commands, and mergekit beside permgraph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from table_cells import DASH, table

STEPS = """## What does a new user need, and how fast do the first commands answer?

    python benchmarks/first_steps.py

The wheel ({bytes:,} bytes) is built and installed into an empty environment, two BERT-shaped folders are made, and the
commands below are run; `AutoModel.from_pretrained` loads what they write. `bert-base` is a config of that size. Clock
seconds were measured on {cores} cores with a load of {load:.0f} to {after:.0f}; processor seconds are summed over
threads.
"""
STARTUP = """## How long does a command take on a tiny model?

    python -m benchmarks.startup

Two Llamas of two layers of 32, in a new environment with `permgraph[hub]` and what it needs, {installed} packages. Each
row is a process of its own, the least of {repeats} runs, with a load of {load:.0f} to {after:.0f} on the machine. The
second row, `torch.export` of one linear layer and an import of the model's class, is what libraries take whatever
permgraph does; the last column is what is added to it. It can be negative: at its end a command does not have Python
look for garbage among a million objects, which takes a plain process longer than some commands take for their work.
"""
MERGEKIT = """## Does an aligned B feed mergekit, and what is that worth?

    python benchmarks/mergekit_methods.py --peers DIR

mergekit {mergekit} merges two small Llamas by its own methods: A with the unmoved B, and A with what
`permgraph align A B` wrote. They model characters of Python's standard library ({steps} steps of training). Figures are
the loss on held-out modules in nats per character; less is better. *Fine-tuned*: both from one base, after which B's
units were put in random order; *in A's order* merges B before that. *Independent*: two seeds, no common base.
"""


def first_steps_section(data: dict[str, Any]) -> Iterator[str]:
    """The walk from the wheel to a merged folder, and the least times of single commands."""
    wheel = data["install"]
    yield STEPS.format(bytes=wheel["wheel_bytes"], load=data["load"], after=data["load_after"], cores=data["cores"])
    rows = [wheel, *data["walk"], *data["times"]]
    cells = [[f"`{row['typed']}`", f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}"] for row in rows]
    yield table(("typed", "clock, s", "processor, s"), cells)


def startup_section(data: dict[str, Any]) -> Iterator[str]:
    """What each command takes, beside what its libraries take alone."""
    yield STARTUP.format(**data, after=data["load_after"])
    rows = data["rows"]
    floor = rows[1]["cpu_seconds"]
    yield table(
        ("typed", "clock, s", "processor, s", "beyond the libraries, s"),
        [
            [
                f"`{row['typed']}`",
                f"{row['seconds']:.2f}",
                f"{row['cpu_seconds']:.2f}",
                f"{row['cpu_seconds'] - floor:+.2f}" if row["cpu_seconds"] > floor / 2 and k > 1 else DASH,
            ]
            for k, row in enumerate(rows)
        ],
    )


def mergekit_section(data: dict[str, Any]) -> Iterator[str]:
    """Loss of what each method of mergekit made of each pair."""
    yield MERGEKIT.format(**data)
    for name, pair in data["pairs"].items():
        kinds = list(next(iter(pair["methods"].values())))
        own = ", ".join(f"{model} {loss:.3f}" for model, loss in pair["loss"].items())
        yield f"**{name.capitalize()}.** Alone: {own}.\n"
        yield table(
            ("method", *kinds), [[f"`{m}`", *(_cell(found[k]) for k in kinds)] for m, found in pair["methods"].items()]
        )


def _cell(found: dict[str, Any]) -> str:
    return f"{found['loss']:.3f}" if found["outcome"] == "merged" else found["outcome"]
