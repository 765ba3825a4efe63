"""The pages on merging, made from results: same-task pairs, musicnn, and which method to use when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kinds_page import healed, kinds_results, lowest, narrow, summary
from pair_means import NAMES, PEERS, WITHOUT_DATA, Row, mean_of, shown
from pairs_page import pairs_page, way_row
from table_cells import DASH, percent, table


def merging_pages(results: dict[str, Any]) -> dict[str, str]:
    """File name -> text of the pages whose results are there."""
    pairs = {name: _whole(results[f"pairs_{name}"]) for name in NAMES if f"pairs_{name}" in results}
    found = {}
    if pairs:
        kinds = kinds_results(results)
        others = {name: results.get(name, {"rows": []})["rows"] for name in ("step_cost", "objectives")}
        found["pairs.md"] = "\n".join(pairs_page(pairs, results.get("curves", {}), kinds, others))
        found["how-to-choose.md"] = "\n".join(choosing_page(pairs, kinds, results.get("musicnn")))
    if "musicnn" in results:
        found["musicnn.md"] = "\n".join(musicnn_page(results["musicnn"]))
    return found


def _whole(data: dict[str, Any]) -> dict[str, Any]:
    """The rows of those pairs for which every way was tried: means are over the same pairs."""
    ways = {row["aligned"] for row in data["rows"]}
    tried: dict[tuple[int, ...], set[str]] = {}
    for row in data["rows"]:
        tried.setdefault(tuple(row["pair"]), set()).add(row["aligned"])
    return {**data, "rows": [row for row in data["rows"] if tried[tuple(row["pair"])] == ways]}


MUSICNN = """# Two real models: musicnn, MTT with MSD

    pip install tensorflow-cpu && python -m benchmarks.musicnn.reference   # in an environment of its own, once
    nice python -m benchmarks.musicnn.measure --peers DIR                  # measures
    python benchmarks/tables.py                                            # writes this page

musicnn (arXiv 1909.06654, ISC licence) trained on MagnaTagATune (A) and on the Million Song Dataset (B), apart and with
50 tags each of their own: {parameters:,} parameters, ported to PyTorch. Every tensor of the checkpoints has its place,
and the port's logits differ from those of the original graphs in TensorFlow by {worst:.0e} of the largest logit.

The trunks are merged; A's head and B's head (its inputs moved as B's units are) read the merged trunk. *Kept*: the
share of a parent's {top} likeliest tags that are among the {top} likeliest of its head on the merged trunk, over
{test} stretches of 3 s of tracks from {packages}; calibration is {calibration} stretches of other tracks. The {top}
tags of a parent that are likeliest on average would keep {a:.1%} of A's and {b:.1%} of B's: below that, nothing of
the parent is left. torch {torch}.
"""


def musicnn_page(data: dict[str, Any]) -> Iterator[str]:
    """Tags kept of both, by how B was moved, how the two were merged, and A's share."""
    constant = data["constant"]
    worst = max(data["reference"].values())
    packages = ", ".join(data["packages"])
    yield MUSICNN.format(**{**data, "packages": packages, "worst": worst, "a": constant["A"], "b": constant["B"]})
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


CHOOSING = """# Which method to use when

    python benchmarks/tables.py      # writes this page from benchmarks/results/*.json

Every figure below is measured, and [pairs](pairs.md) has the rest: barriers are losses over the mean of the two models,
half way, means over pairs of models that were trained apart.

| you have | do | from the command line |
| --- | --- | --- |
| two transformers, no data | `pg.align(a, b, kinds="all")`, then `pg.merge` | `permgraph merge A B --kinds all` |
| the same, and unlabelled inputs | `method="learned"`, `data=` | `--kinds all --method learned --data DIR --steps N` |
| the same, and minutes to train | `pg.heal` on that merge | |
| transformers whose norms follow the sums (BERT) | the same: heads are rotated, the stream is permuted | the same |
| two convolutional networks or MLPs, no data | `pg.align(a, b)`, then `pg.merge` | `permgraph merge A B` |
| the same, and unlabelled inputs like the training data | `method="refit"`, with `data=` | `--data DIR --merge refit` |
| only one forward pass a sample to spare | `method="pleas"` | `--data DIR --merge pleas` |
| BatchNorm, and weights that must stay | `method="batch_norm"` or `"repair"` | `--data DIR --merge repair` |
| one model that matters more | `weight=0.9`, or `{"attention": 0.5, "default": 0.9}` | `--weight 0.9` |

Convolutional networks and MLPs have no rotations: there `kinds="all"` finds what permutations find, and scales.
`python docs/examples/two_vits.py` does the first two rows on two small transformers.
"""
TRANSFORMERS = """## Transformers

The linear merge half way, by how B was moved: its barrier, and its accuracy. B computes the same after it is moved.
"""
HEALING = """Healing trains the merge to do what both parents do on average, on unlabelled inputs. Barriers, by how B
was moved before and the number of steps:
"""


def choosing_page(pairs: dict[str, Any], kinds: dict[str, Any], music: dict[str, Any] | None) -> Iterator[str]:
    """Advice, and the figures behind it."""
    yield CHOOSING
    if kinds:
        yield TRANSFORMERS
        kinds = narrow(kinds)
        yield summary(kinds)
        yield "The lowest barriers:\n"
        yield lowest(kinds)
        yield HEALING
        yield healed(kinds)
    yield "## Permutations, without data and with some\n"
    head = ("barrier", *(f"{way}, {merged}" for way, merged in COMPARED))
    yield table(head, [[name, *_compared(data["rows"])] for name, data in pairs.items()])
    yield "".join(_advice(name, data["rows"]) for name, data in pairs.items())
    yield "## Permutations by weights or by correlation?\n"
    yield MATCHING
    head = ("barrier: weights / correlation / mix", *MERGES)
    yield table(head, [[name, *_matched(data["rows"])] for name, data in pairs.items()])
    if music is not None:
        yield "## Two real models\n"
        yield from _real(music)
    yield "## What it costs\n"
    head = ("CPU seconds to align", "descent from the identity", "correlation", "weights", "mix")
    yield table(head, [[name, *(way_row(way, data["rows"])[2] for way in head[1:])] for name, data in pairs.items()])
    yield COST


COMPARED = (
    ("plain average", "linear"),
    ("weights", "linear"),
    ("correlation", "linear"),
    ("plain average", "refit"),
    ("weights", "refit"),
    ("correlation", "refit"),
)
MERGES = ("linear", "repair", "regmean", "pleas", "refit")
MATCHING = """Both find every planted permutation; on models trained apart they differ, and the merge matters more:
"""
COST = """`refit` and `repair` hold the live activations of all calibration batches; `regmean` and `pleas` stream
them and hold second moments instead. All give an ordinary checkpoint.
"""


def _heights(rows: Sequence[Row], way: str, merged: str) -> list[Row]:
    return [row for row in rows if row["aligned"] == way and row.get("merged") == merged]


def _compared(rows: Sequence[Row]) -> list[str]:
    found = [_heights(rows, *one) for one in COMPARED]
    return [shown(mean_of(own, "height")) if own else DASH for own in found]


def _matched(rows: Sequence[Row]) -> list[str]:
    cells = []
    for merged in MERGES:
        both = [_heights(rows, way, merged) for way in ("weights", "correlation", "mix")]
        cells.append(" / ".join(f"{mean_of(own, 'height')[0]:.3f}" if own else DASH for own in both))
    return cells


def _advice(name: str, rows: Sequence[Row]) -> str:
    """The lowest barrier, what it leaves of the models' accuracy, and the best that no data gives."""
    known = list(dict.fromkeys((r["aligned"], r["merged"]) for r in rows if r["aligned"] not in PEERS))
    best = min(known, key=lambda one: mean_of(_heights(rows, *one), "height")[0])
    own = _heights(rows, *best)
    left, _ = mean_of(own, "height")
    ends = sum(r["accuracies"][0] + r["accuracies"][-1] for r in own) / (2 * len(own))
    middle, _ = mean_of(own, "middle")
    return (
        f"- {name}: lowest is {best[0]} with {best[1]}, {left:.3f}; its accuracy is {middle:.3f} where the models have "
        f"{ends:.3f} ({len(own)} {'pairs' if len(own) > 1 else 'pair'}).\n"
    )


def _real(music: dict[str, Any]) -> Iterator[str]:
    """The merge that keeps most tags of both."""
    rows = [row for row in music["rows"] if "weight" in row]
    best = max(rows, key=lambda row: min(row["A"]["kept"], row["B"]["kept"]))
    plain = max(
        (row for row in rows if row["aligned"] == PEERS[0] and row["merged"] == WITHOUT_DATA),
        key=lambda row: min(row["A"]["kept"], row["B"]["kept"]),
    )
    constant = music["constant"]
    yield (
        f"[musicnn](musicnn.md), MTT with MSD: {best['aligned']} with {best['merged']} at A's share {best['weight']:g} "
        f"keeps most of both, {best['A']['kept']:.1%} of A's tags and {best['B']['kept']:.1%} of B's; the plain "
        f"average at its best {plain['A']['kept']:.1%} and {plain['B']['kept']:.1%}; a constant "
        f"{constant['A']:.1%} and {constant['B']:.1%}.\n"
    )
