"""The tables of one pair of encoders: tasks, each step over the weight and at its best, contrasts, layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.speech_music.markdown import span, table
from benchmarks.speech_music.scoring import KEPT, MEASURES, SCORES, TRANSFER

FAMILIES = {
    "plain": "B as it stands",
    "permuted": "B's units in another order, each alignment proved",
    "kinds": "B moved by every kind of symmetry, each alignment proved",
    "refitted": "merged, then refitted layer after layer on unlabelled audio",
    "healed": "merged, then healed on unlabelled audio",
    "longer": "merged, then healed on unlabelled audio for longer",
    "unmerged": "the same steps without a merge",
    "control": "controls",
}
SHOWN = (*SCORES, "way")
Result = dict[str, Any]


def tasks_table(result: Result) -> str:
    """Tasks with their sizes, chance, both encoders' accuracies and whether they count; then the scores."""
    head = ("task", "domain", "classes", "fitted on", "tested on", "groups", "chance", "A", "B", "B - A", "counts")
    rows = []
    for task in result["tasks"]:
        counts = (str(task[key]) for key in ("classes", "fitted", "tested", "groups"))
        both = (span(result[side]["tasks"][task["name"]], 3) for side in "AB")
        why = "yes" if task["counts"] else "no: the other way" if task["better"] else "no: alike, or at chance"
        cells = [*counts, f"{task['chance']:.3f}", *both, span(task["apart"], 3, sign=True), why]
        rows.append([task["title"], task["domain"], *cells])
    return table(head, rows) + "\n" + table(("model", *SHOWN), ends(result))


def ends(result: Result) -> list[list[str]]:
    """The scores of A, of B and of both side by side."""
    sides = {"A": "A alone", "B": "B alone", "AB": "features of both side by side, twice as many"}
    return [[title, *(span(result[side][name]) for name in MEASURES)] for side, title in sides.items()]


def by_family(result: Result, make: Callable[[Result], list[str]], width: int) -> Iterator[list[str]]:
    """A heading for each family, and what `make` says of each of its rows."""
    for family, title in FAMILIES.items():
        own = [row for row in result["rows"] if row["family"] == family]
        if own:
            yield [f"**{title}**", *[""] * (width - 1)]
        yield from map(make, own)


def sweep_table(result: Result) -> str:
    """Speech and way of every row at every weight."""
    weights = sorted({point["weight"] for row in result["rows"] for point in row["points"]})

    def cells(row: Result) -> list[str]:
        found = {point["weight"]: f"{point['speech'][0]:.0f} / {point[TRANSFER][0]:.0f}" for point in row["points"]}
        return [row["title"], *(found.get(weight, "–") for weight in weights)]

    head = ("speech / way, at A's share", *(f"{weight:g}" for weight in weights))
    return table(head, list(by_family(result, cells, len(head))))


def best_table(result: Result) -> str:
    """The way at a kept speech score, from linear's; and the best average, from linear's best."""
    head = ("step", f"way at {KEPT // 10} %", "at", "minus linear's", "best average", "at", "minus linear's", "minus A")

    def cells(row: Result) -> list[str]:
        best, plain = row["best"], row["name"] == "linear"
        at = "–" if best["transferred_at"] is None else f"{best['transferred_at']:g}"
        gains = (best["transferred_minus_linear"], best["minus_linear"]["average"])
        way, average = ("–" if plain else span(gain, sign=True) for gain in gains)
        there = [span(best["average"]), f"{best['weight']:g}", average, span(best["minus_a"]["average"], sign=True)]
        return [row["title"], span(best["transferred"]), at, way, *there]

    return table(head, list(by_family(result, cells, len(head))))


def contrast_table(result: Result) -> str:
    """Differences at equal weight, and from one encoder alone."""
    titles = {row["name"]: row["title"] for row in result["rows"]}
    rows = [
        [titles[one["row"]], titles[one["control"]], f"{one['weight']:g}"]
        + [span(one[name], sign=True) for name in MEASURES]
        for one in result["contrasts"]
    ]
    return table(("step", "minus", "at A's share", *SHOWN), rows)


def task_rows(result: Result) -> str:
    """Accuracy of every merge on every task that tells the encoders apart."""
    names = [task["name"] for task in result["tasks"] if task["better"]]
    sides = {"A": "A alone", "B": "B alone", "AB": "features of both side by side"}
    rows = [[title, "", *[f"{result[side]['tasks'][n][0]:.3f}" for n in names]] for side, title in sides.items()]
    for row in result["rows"]:
        for point in row["points"]:
            rows.append([row["title"], f"{point['weight']:g}", *[f"{point['tasks'][n][0]:.3f}" for n in names]])
    return table(("model", "A's share", *names), rows)


def layer_sections(name: str, layers: dict[str, Any]) -> Iterator[str]:
    """Correlation by group, and the picture of the departures."""
    yield "### What the two encoders have in common, layer by layer\n"
    yield (
        "Mean correlation of matched units. *Fitted*: on the calibration audio that they were matched on; the other "
        "columns on held-out audio. *To random weights*: B aligned in the same way to an untrained encoder, which is "
        "what an assignment finds without anything learned in common.\n"
    )
    head = ("group", "units", "fitted", "aligned", "as B stands", "to random weights", "moved")
    rows = [
        [g["group"], f"{g['count']} × {g['size']}" if g["count"] > 1 else str(g["size"])]
        + [f"{g[key]:.3f}" for key in ("fitted", "aligned", "identity", "random")]
        + [f"{g['moved']:.1%}"]
        for g in layers["groups"]
    ]
    yield table(head, rows)
    yield "### Where a merged model's representations leave both parents'\n"
    yield "Linear CKA on held-out audio, with A and with B; the first pair of columns is A itself.\n"
    yield departure_table(layers["departures"])
    yield f"![CKA by layer](experiment-{name}-layers.svg)\n"


def departure_table(rows: list[dict[str, Any]]) -> str:
    """Layers down, merged models across."""
    models = list(dict.fromkeys((row["model"], row["weight"]) for row in rows))
    found = {(row["model"], row["weight"], row["layer"]): (row["a"], row["b"]) for row in rows}
    head = ["layer", *[f"{model} at {weight:g}: A / B" for model, weight in models]]
    layers = dict.fromkeys(row["layer"] for row in rows)
    body = [
        [layer, *["{:.2f} / {:.2f}".format(*found[model, weight, layer]) for model, weight in models]]
        for layer in layers
    ]
    return table(head, body)
