"""The pages on merging, made from results: same-task pairs, musicnn, and which method to use when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kinds_page import healed, kinds_results, learned_barriers, lowest, narrow, summary
from pair_means import NAMES, PEERS, WITHOUT_DATA, Row, mean_of, shown
from pairs_page import pairs_page, way_row
from real_pages import ensemble_page, musicnn_finding, musicnn_page
from table_cells import DASH, table


def merging_pages(results: dict[str, Any]) -> dict[str, str]:
    """File name -> text of the pages whose results are there."""
    pairs = {name: _whole(results[f"pairs_{name}"]) for name in NAMES if f"pairs_{name}" in results}
    found = {}
    if pairs:
        kinds = kinds_results(results)
        others = {name: results.get(name, {"rows": []})["rows"] for name in ("step_cost", "objectives", "limits")}
        found["pairs.md"] = "\n".join(pairs_page(pairs, results.get("curves", {}), kinds, others))
        found["how-to-choose.md"] = "\n".join(choosing_page(pairs, kinds, results.get("musicnn")))
    if "musicnn" in results:
        found["musicnn.md"] = "\n".join(musicnn_page(results["musicnn"], results.get("musicnn_vgg")))
    if "madmom" in results:
        found["ensemble.md"] = "\n".join(ensemble_page(results["madmom"]))
    return found


def _whole(data: dict[str, Any]) -> dict[str, Any]:
    """The rows of the pairs for which every way was tried, so that means are over the same pairs."""
    ways = {row["aligned"] for row in data["rows"]}
    tried: dict[tuple[int, ...], set[str]] = {}
    for row in data["rows"]:
        tried.setdefault(tuple(row["pair"]), set()).add(row["aligned"])
    return {**data, "rows": [row for row in data["rows"] if tried[tuple(row["pair"])] == ways]}


CHOOSING = """# Which method to use when

    python benchmarks/tables.py      # writes this page from benchmarks/results/*.json

"""
ANSWER = """\
**Transformers**: align in all kinds, learn the alignment on inputs without labels, merge, and heal if there is time.

    moved = pg.align(a, b, data, kinds="all", method="learned")
    state = pg.merge(a, b, alignment=moved)
    state = pg.heal(state, a, b, data, steps=100)
"""
OTHERS = """**Convolutional networks and MLPs**: align by permutations, and fit the merge to data without labels.

    moved = pg.align(a, b, data)
    state = pg.merge(a, b, alignment=moved, method="refit", data=data)
"""
BARRIER = """The *barrier* is the loss of the merge half way less the mean loss of both models: 0 is a merge as good as
they are. Figures are means over pairs of models that were trained separately; [pairs](pairs.md) has the rest.

| you have | do | from the command line |
| --- | --- | --- |
| two transformers, no data | `pg.align(a, b, kinds="all")`, then `pg.merge` | `permgraph merge A B --kinds all` |
| the same, and minutes to learn | `method="learned"`, `data=pg.synthetic([a, b])` | \
`--kinds all --method learned --data synthetic` |
| the same, and inputs without labels | `method="learned"`, `data=` | `--kinds all --method learned --data DIR` |
| the same, and minutes to train | then `pg.heal` on the merge | also `--merge linear+heal` |
| transformers whose norms follow the sums (BERT) | the same: heads are mixed, the stream is permuted | the same |
| two convolutional networks or MLPs, no data | `pg.align(a, b)`, then `pg.merge` | `permgraph merge A B` |
| the same, and inputs without labels | `method="refit"`, with `data=` | `--data DIR --merge refit` |
| time for only one forward pass per sample | `method="pleas"` | `--data DIR --merge pleas` |
| BatchNorm, and weights that should not be fitted | `method="batch_norm"` or `"repair"` | `--data DIR --merge repair` |
| one model that matters more | `weight=0.9`, or `{"attention": 0.5, "default": 0.9}` | `--weight 0.9` |

Convolutional networks and MLPs have no rotations: for them `kinds="all"` adds only scales to the permutations.
`python docs/examples/two_vits.py` runs the first three rows on two small transformers.
"""
TRANSFORMERS = """## Transformers

Barrier and accuracy of the linear merge half way, by how B was moved. Moving B does not change its function.
"""
HEALING = """Healing trains the merge to reproduce the average of both parents' outputs, on unlabelled inputs. Barriers,
by how B was moved before and the number of steps:
"""
CONVOLUTIONS = """## Convolutional networks and MLPs

The barrier, by how B was moved and how the two were merged. The choice of the merge matters more than that between
weights and correlation.
"""
OTHER = ("mlp", "resnet")


def choosing_page(pairs: dict[str, Any], kinds: dict[str, Any], music: dict[str, Any] | None) -> Iterator[str]:
    """The answer, advice for each case, and the figures behind both."""
    kinds = narrow(kinds)
    others = {name: data for name, data in pairs.items() if name in OTHER}
    yield CHOOSING + ANSWER
    yield from learned_barriers(kinds)
    yield OTHERS
    yield "".join(_advice(name, data["rows"]) for name, data in others.items())
    yield BARRIER
    if kinds:
        yield TRANSFORMERS
        yield summary(kinds)
        yield "The lowest barriers:\n"
        yield lowest(kinds)
        yield HEALING
        yield healed(kinds)
    yield CONVOLUTIONS
    head = ("barrier", *(f"{way}, {merged}" for way, merged in COMPARED))
    yield table(head, [[name, *_compared(data["rows"])] for name, data in others.items()])
    if music is not None:
        yield "## Two real models\n"
        yield f"[musicnn](musicnn.md), MTT with MSD: {musicnn_finding(music)}\n"
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
COST = """These are permutations. `refit` and `repair` hold the live activations of all calibration batches; `regmean`
and `pleas` stream them and hold second moments instead. All give an ordinary checkpoint.
"""


def _heights(rows: Sequence[Row], way: str, merged: str) -> list[Row]:
    return [row for row in rows if row["aligned"] == way and row.get("merged") == merged]


def _compared(rows: Sequence[Row]) -> list[str]:
    found = [_heights(rows, *one) for one in COMPARED]
    return [shown(mean_of(own, "height")) if own else DASH for own in found]


def _advice(name: str, rows: Sequence[Row]) -> str:
    """From which barrier to which, by the way of ours that leaves the lowest."""
    known = list(dict.fromkeys((r["aligned"], r["merged"]) for r in rows if r["aligned"] not in PEERS))
    best = min(known, key=lambda one: mean_of(_heights(rows, *one), "height")[0])
    before, _ = mean_of(_heights(rows, PEERS[0], WITHOUT_DATA), "height")
    own = _heights(rows, *best)
    ends = sum(r["accuracies"][0] + r["accuracies"][-1] for r in own) / (2 * len(own))
    left, middle = (mean_of(own, figure)[0] for figure in ("height", "middle"))
    return (
        f"- {NAMES[name]}: the barrier falls from {before:.2f} to {left:.3f}, by {best[0]} and {best[1]}; "
        f"accuracy {middle:.3f}, of the models {ends:.3f}.\n"
    )
