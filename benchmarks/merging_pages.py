"""The pages on merging, made from results: same-task pairs, musicnn, and which method to use when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Any

from table_cells import DASH, percent, seconds, table

Row = dict[str, Any]
NAMES = {
    "mlp": "MLP, three hidden layers of 256, Fashion-MNIST",
    "resnet": "ResNet with BatchNorm, widths 16, 32, 64, Fashion-MNIST",
    "vit": "ViT, four layers of 64, Fashion-MNIST",
    "gpt2": "GPT-2, two layers of 64, characters of the Brown corpus",
}
PEERS = ("plain average", "descent from the identity", "rebasin")
WITHOUT_DATA = "linear"
T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}  # Student's t, two sides, by degrees of freedom


def merging_pages(results: dict[str, Any]) -> dict[str, str]:
    """File name -> text of the pages whose results are there."""
    pairs = {name: _whole(results[f"pairs_{name}"]) for name in NAMES if f"pairs_{name}" in results}
    found = {}
    if pairs:
        found["pairs.md"] = "\n".join(pairs_page(pairs, results.get("curves", {})))
        found["how-to-choose.md"] = "\n".join(choosing_page(pairs, results.get("musicnn")))
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


def mean_of(rows: Sequence[Row], key: str) -> tuple[float, float | None]:
    """The mean over pairs and half its 95 % interval, by leaving out one model at a time; None below three models.

    Two pairs that share a model are not independent: the jackknife over models (Arvesen, 1969) allows for that.
    """
    values = [row[key] for row in rows]
    mean = sum(values) / len(values)
    models = sorted({model for row in rows for model in row["pair"]})
    count = len(models)
    if count < 3 or len(rows) != count * (count - 1) // 2:
        return mean, None
    left = []
    for model in models:
        kept = [row[key] for row in rows if model not in row["pair"]]
        left.append(sum(kept) / len(kept))
    middle = sum(left) / count
    variance = (count - 1) / count * sum((value - middle) ** 2 for value in left)
    return mean, T_95[count - 1] * sqrt(variance)


def shown(value: tuple[float, float | None], digits: int = 3) -> str:
    """A mean with half its interval."""
    mean, half = value
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def order_of(rows: Sequence[Row], key: str) -> list[str]:
    """The values of a key, in order of first appearance."""
    return list(dict.fromkeys(row[key] for row in rows if key in row))


PAIRS = """# Two models of one task

    nice python -m benchmarks.pairs.train                  # three models of each architecture, from different seeds
    pip install --no-deps --target DIR rebasin==0.0.47 torchview graphviz
    nice python -m benchmarks.pairs.measure --peers DIR    # measures
    python benchmarks/tables.py                            # writes this page

The *barrier* is the loss of the merge half way less the mean loss of the two models (0 where it is negative), on
{test} held-out images, or {text} texts of 64 characters; half way, also the *accuracy* (of the next character, for
GPT-2). Means over pairs of three models, with half of the 95 % interval where all three pairs are there (jackknife over
models, which allows for pairs that share one; wide, with three). Methods that need data see {calibration} images, or
{texts} texts, of the training set, without labels.

*Descent from the identity* is Git Re-Basin's weight matching over permgraph's groups; rebasin 0.0.47 has its own
groups. *Repair*, *regmean*, *pleas* and *refit* are permgraph's, also where the alignment is a peer's or none.
*Function changed*: by how much moving B changed its outputs, relative; a peer that changes them merges A with another
model. *Similarity*: the cosine of all weights of A with those of B moved. torch {torch}.
"""


def pairs_page(pairs: dict[str, Any], curves: dict[str, Any]) -> Iterator[str]:
    """A section for each architecture, and a verdict."""
    settings = next(iter(pairs.values()))
    texts = {key: settings[name] // settings["text"] for key, name in (("text", "test"), ("texts", "calibration"))}
    yield PAIRS.format(**{**settings, **texts})
    yield "## Is the best of ours at or below every peer?\n"
    yield VERDICT
    head = (
        "pair",
        "ours, no data",
        "ours, with data",
        "best peer",
        "which",
        "with our merging",
        "outcome",
    )
    verdicts = [_verdict(name, pair, data["rows"]) for name, data in pairs.items() for pair in _pairs(data)]
    yield table(head, verdicts)
    yield _counted(verdicts)
    for name, data in pairs.items():
        yield f"## {NAMES[name]}\n"
        yield from _architecture(data["rows"])
        if name in curves:
            yield f"![Loss and accuracy along the way between the first two models](pictures/pairs_{name}.svg)\n"


VERDICT = """The barrier of each pair. *Ours, no data*: weight matching and the linear merge. *Ours, with data*: the
best of ours, any merge. *Best peer*: the lowest linear merge after plain average, descent and rebasin.
*With our merging*: the lowest over the peers' alignments when permgraph's merges are used on them too.
Lower is better.
"""


def _pairs(data: dict[str, Any]) -> list[list[int]]:
    return [list(pair) for pair in sorted({tuple(row["pair"]) for row in data["rows"]})]


def _verdict(name: str, pair: list[int], rows: Sequence[Row]) -> list[str]:
    here = [row for row in rows if row["pair"] == pair and "height" in row]
    ours = [row for row in here if row["aligned"] not in PEERS]
    peers = [row for row in here if row["aligned"] in PEERS]
    plain = min((row for row in peers if row["merged"] == WITHOUT_DATA), key=lambda row: row["height"])
    no_data = min(row["height"] for row in ours if row["aligned"] == "weights" and row["merged"] == WITHOUT_DATA)
    best = min(row["height"] for row in ours)
    lent = min(row["height"] for row in peers)
    outcome = "at or below" if best <= plain["height"] else "**above**"
    if best > lent:
        outcome += ", above it with our merging"
    cells = [f"{value:.3f}" for value in (no_data, best, plain["height"])]
    return [f"{name} {pair[0]}, {pair[1]}", *cells, plain["aligned"], f"{lent:.3f}", outcome]


def _counted(verdicts: Sequence[Sequence[str]]) -> str:
    """In how many pairs ours is at or below, with and without data, and with our merging lent to the peers."""
    rows = [[float(cell) for cell in (*line[1:4], line[5])] for line in verdicts]
    counts = [sum(row[mine] <= row[theirs] for row in rows) for mine, theirs in ((0, 2), (1, 2), (1, 3))]
    above = [line[0] for line, row in zip(verdicts, rows, strict=True) if row[0] > row[2]]
    text = (
        f"Of {len(rows)} pairs ours is at or below every peer in {counts[0]} without data, in {counts[1]} with data, "
        f"and in {counts[2]} where the peers are merged as ours are.\n"
    )
    if above:
        text += (
            f"\nWithout data it is above for {'; '.join(above)}. Weight matching looks for the largest *similarity* "
            "(below), and finds more of it than descent does; the loss half way is another thing.\n"
        )
    return text


def _architecture(rows: Sequence[Row]) -> Iterator[str]:
    merges, ways = order_of(rows, "merged"), order_of(rows, "aligned")
    for key, what, digits in (("height", "barrier", 3), ("middle", "accuracy", 3)):
        cells = []
        for way in ways:
            line = [way]
            for merged in merges:
                own = [r for r in rows if r["aligned"] == way and r.get("merged") == merged]
                line.append(shown(mean_of(own, key), digits) if own else DASH)
            cells.append(line)
        yield table((what, *merges), cells)
    head = ("moved by", "pairs", "CPU seconds", "function changed", "similarity")
    yield table(head, [_way(way, rows) for way in ways])
    ends = {row["pair"][k]: row for row in rows if "losses" in row for k in (0, 1)}
    own = [_end(row, model) for model, row in sorted(ends.items())]
    yield "The models: " + "; ".join(f"loss {loss:.3f}, accuracy {hits:.3f}" for loss, hits in own) + ".\n"
    reasons = {f"{row['aligned']}: {row['failure']}" for row in rows if "failure" in row}
    if reasons:
        yield "No permutation: " + "; ".join(sorted(reasons)) + ".\n"


def _end(row: Row, model: int) -> tuple[float, float]:
    end = -1 if row["pair"][0] == model else 0  # A is the first of a pair, and stands at weight 1
    return row["losses"][end], row["accuracies"][end]


def _way(way: str, rows: Sequence[Row]) -> list[str]:
    own = {tuple(row["pair"]): row for row in rows if row["aligned"] == way and "seconds" in row}
    if not own:
        return [way, "0", DASH, DASH, DASH]
    worst = max(row["function_error"] for row in own.values())
    spent = sum(row["seconds"] for row in own.values()) / len(own)
    known = [row["similarity"] for row in own.values() if "similarity" in row]
    alike = f"{sum(known) / len(known):.3f}" if len(known) == len(own) else DASH
    cost = DASH if way == "rebasin" else seconds(spent)  # it runs in a process of its own, whose time is not counted
    return [way, str(len(own)), cost, f"{worst:.0e}" if worst < 1e-3 else f"**{worst:.2g}**", alike]


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
half way, means over pairs.

| you have | do | from the command line |
| --- | --- | --- |
| two models, no data | `pg.align(a, b)`, then `pg.merge` | `permgraph merge A B` |
| inputs like the training data, no labels | the same with `data=`, `method="refit"` | `--data DIR --merge refit` |
| only one forward pass a sample to spare | `method="pleas"` | `--data DIR --merge pleas` |
| BatchNorm, and weights that must stay | `method="batch_norm"` or `"repair"` | `--data DIR --merge repair` |
| one model that matters more | `weight=0.9`, or `{"attention": 0.5, "default": 0.9}` | `--weight 0.9` |
"""


def choosing_page(pairs: dict[str, Any], music: dict[str, Any] | None) -> Iterator[str]:
    """Advice, and the figures behind it."""
    yield CHOOSING
    yield "## Without data, and with some\n"
    head = ("barrier", *(f"{way}, {merged}" for way, merged in COMPARED))
    yield table(head, [[name, *_compared(data["rows"])] for name, data in pairs.items()])
    yield "".join(_advice(name, data["rows"]) for name, data in pairs.items())
    yield "## By weights or by correlation?\n"
    yield MATCHING
    head = ("barrier: weights / correlation / mix", *MERGES)
    yield table(head, [[name, *_matched(data["rows"])] for name, data in pairs.items()])
    if music is not None:
        yield "## Two real models\n"
        yield from _real(music)
    yield "## What it costs\n"
    head = ("CPU seconds to align", "descent from the identity", "correlation", "weights", "mix")
    yield table(head, [[name, *(_way(way, data["rows"])[2] for way in head[1:])] for name, data in pairs.items()])
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
