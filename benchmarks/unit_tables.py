"""The sections of `docs/benchmarks.md` on units: their removal, and their order for 2:4 sparsity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from table_cells import percent, table

REMOVAL = """## Does removing units leave the rest unchanged?

    pip install --no-deps --target DIR torch-pruning==1.6.1
    python -m benchmarks.units.removal --peers DIR

The same units, named as rows of a layer, are removed by Torch-Pruning {torch_pruning}, along its dependency graph, and
by `spec.remove`. *Right*: the smaller model computes what the whole model computes with these units set to 0 by hand.
*Wrong*: it computes something else, without a warning. *Refused*: the tool says that there is no such smaller model.
*Does not run*: the smaller model cannot be run. Of a head, Torch-Pruning removes the keys and leaves the queries,
unless its user names both.
"""
SPARSITY = """## How much does an order of units keep under 2:4 sparsity?

    python -m benchmarks.units.sparsity --peers DIR

Feed-forward units of the demo's speech encoder, reordered by `spec.reorder`; the figures are the share of the absolute
sum of the output weights in the two largest of every four neighbours. *Spread* is the order of [units](units.md): every
four columns get two of the larger and two of the smaller ones. *Search* is NVIDIA's `Channel_Swap`; it is in no package
on PyPI, and slow without its CUDA kernels, so it orders only the first {units} units. Its figures are from our
reimplementation of its CPU path, not from its own file. *Outputs differ*: the largest difference between the outputs of
the encoder as stored and reordered, in float32.
"""


def removal_section(data: dict[str, Any]) -> Iterator[str]:
    """A row for each model."""
    yield REMOVAL.format(**data)
    rows = [[row["name"], *(_outcome(row[tool]) for tool in ("permgraph", "torch_pruning"))] for row in data["rows"]]
    same = ["yes" if row["same"] else "no" for row in data["rows"]]
    yield table(
        ("units of", "`spec.remove`", "Torch-Pruning", "same slices"),
        [[*r, s] for r, s in zip(rows, same, strict=True)],
    )


def _outcome(one: dict[str, Any]) -> str:
    return f"**{one['outcome']}**" if one["outcome"] == "wrong" else str(one["outcome"])


def sparsity_section(data: dict[str, Any]) -> Iterator[str]:
    """A row for each layer."""
    yield SPARSITY.format(**data)
    first = f"first {data['units']}"
    head = ("layer", "units", "as stored", "spread", f"{first}: as stored", f"{first}: spread", f"{first}: search")
    yield table((*head, "outputs differ"), [_layer(row) for row in data["rows"]])


def _layer(row: dict[str, Any]) -> list[str]:
    shares = [row["stored"], row["spread"], *(row["first"][how] for how in ("stored", "spread", "search"))]
    name = row["layer"].removesuffix(".feed_forward.output_dense.weight")
    return [name, str(row["units"]), *map(percent, shares), f"{row['gap']:.0e}"]
