"""Tables of transformers that are matched in all kinds: for the page on pairs, the page on choosing, and the README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pair_means import NAMES, Row, mean_of, shown
from published_page import published
from table_cells import DASH, seconds, table

Results = Mapping[str, Mapping[str, Any]]
"""Architecture -> what `benchmarks/pairs/kinds.py` wrote."""

KINDS = {"none": "unmoved", "permutation": "permutations", "all": "all kinds"}
TRAINING = "training set"


def kinds_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Architecture -> its results, for architectures that have some."""
    return {name: results[f"kinds_{name}"] for name in NAMES if f"kinds_{name}" in results}


def narrow(found: Results) -> dict[str, Any]:
    """The results without the wider architectures."""
    return {name: data for name, data in found.items() if not is_wider(name)}


BEYOND = """## Beyond permutations: transformers in all kinds

    nice python -m benchmarks.pairs.kinds                  # measures

B is moved by permutations, or by *all kinds*: a rotation of the residual stream, invertible maps inside heads, scales,
and permutations. These are found by weights, by correlation, or *learned*: {steps} steps of descent on unlabelled
inputs, which begin at the result by weights, by activations, or by both, whichever is best on the first batches; *from
weights*: they always begin at the result by weights, at half the rate. B is proved to keep its function: the largest
relative error of any row is {error:.0e}. *Mix*: weights and activations count alike. *Inputs*: how many samples of the
training set are used to move B ({text} for one text), or *synthetic* ones, which need no data: noise that looks like
images, or texts that the two models write (`pg.synthetic`). `refit` uses {some} more, and healing uses the training
set, for the given number of steps; after synthetic inputs it uses these. *Seconds*: processor time of moving B, and of
merging. *Pairs*: how many of the three pairs were measured.
"""


COST = """A step of learning takes as long as {times} steps of training the model on as many inputs
(`python -m benchmarks.pairs.step_cost`).
"""


def beyond(found: Results, cost: Sequence[Row], limits: Iterable[str] = ()) -> Iterator[str]:
    """A table for each architecture, what a step of learning costs, and what stands in the way."""
    rows = [row for data in found.values() for row in data["rows"]]
    error = max(row.get("max_error", 0.0) for row in rows)
    yield BEYOND.format(**{**next(iter(found.values())), "error": error})
    if cost:
        times = ", ".join(f"{row['learning'] / row['training']:.1f} ({row['architecture']})" for row in cost)
        yield COST.format(times=times)
    yield from parts(found)
    yield from limits
    head = ("B moved by", "merged by", "inputs", "barrier", "accuracy", "moving, s", "merging, s", "pairs")
    yield from widths(found)
    yield from published()
    for name, data in narrow(found).items():
        yield f"### {NAMES[name]}\n"
        yield f"The models' accuracy is {_models_accuracy(data)}.\n"
        yield table(head, [_row(name, data, key) for key in _keys(data)])


WIDTHS = """### By width

The same at other widths. *Passes*: how often each was trained on the training set; where models of two widths were
trained for different numbers of passes, training may explain part of a difference. *Pairs*: the number of pairs of
separately trained models.
"""
WIDE_ROWS = {
    "plain": "plain average",
    "permutations": "permutations",
    "weights": "all kinds",
    "learned-synthetic": "learned, no data",
    "learned": "learned",
}


def is_wider(name: str) -> bool:
    """Whether an architecture is a wider version of another one: its name ends with the width."""
    return "-" in name


def widths(found: Results) -> Iterator[str]:
    """The barriers of architectures that were trained at several widths."""
    wide = [name for name in found if is_wider(name)]
    if not wide:
        return
    yield WIDTHS
    lines = []
    for base in dict.fromkeys(name.split("-")[0] for name in wide):
        for name in (name for name in found if name.split("-")[0] == base):
            data = found[name]
            cells = [shown(mean_of(own, "height")) if (own := _whole(data, key)) else DASH for key in WIDE_ROWS]
            passes = f"{data['passes']:g}" if "passes" in data else DASH
            lines.append([NAMES[name], passes, _models_accuracy(data), *cells, str(len(_own(data, "plain")))])
    yield table(("barrier", "passes", "the models' accuracy", *WIDE_ROWS.values(), "pairs"), lines)
    yield "".join(_undertrained(found[name], found[name.split("-")[0]], name) for name in wide)


UNDER = 0.01  # of accuracy


def _undertrained(data: Mapping[str, Any], base: Mapping[str, Any], name: str) -> str:
    """That models are less accurate than the usual ones of their architecture, if they are."""
    own, usual = _accuracy(data), _accuracy(base)
    if own > usual - UNDER:
        return ""
    return f"- {NAMES[name]}: less accurate than the usual ones, {own:.3f} against {usual:.3f}: trained too little.\n"


PARTS = """### One part alone

B is moved as learned, and one part of the model alone is merged half way; the others are A's. By how much the loss is
above A's then. What is learned is the merge of all parts, so that one part alone may cost more than all.
"""


def parts(found: Results) -> Iterator[str]:
    """What the merge of each part alone costs, of architectures where that was measured."""
    rows = {name: [row for row in _own(data, "learned") if "parts" in row] for name, data in found.items()}
    roles = list(dict.fromkeys(role for own in rows.values() for row in own for role in row["parts"]))
    if not roles:
        return
    yield PARTS
    lines = []
    for name, own in rows.items():
        costs = [[{**row["parts"], "pair": row["pair"]} for row in own if role in row["parts"]] for role in roles]
        cells = [shown(mean_of(cost, role)) if cost else DASH for cost, role in zip(costs, roles, strict=True)]
        lines += [[NAMES[name], *cells, shown(mean_of(own, "height")), str(len(own))]] if own else []
    yield table(("loss above A's", *(role.replace("_", "-") for role in roles), "all", "pairs"), lines)


def _models_accuracy(data: Mapping[str, Any]) -> str:
    return f"{_accuracy(data):.3f}"


def _accuracy(data: Mapping[str, Any]) -> float:
    ends = [row["accuracies"][k] for row in data["rows"] for k in (0, -1)]
    return sum(ends) / len(ends)


def _keys(data: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["row"] for row in data["rows"]))


def _own(data: Mapping[str, Any], key: str) -> list[Row]:
    return [row for row in data["rows"] if row["row"] == key]


def _whole(data: Mapping[str, Any], key: str) -> list[Row]:
    """The rows of `key` if all pairs have them, so that means are comparable; else those from weights, else []."""
    return next((_own(data, name) for name in (key, f"{key}-from-weights") if _is_whole(data, name)), [])


def _is_whole(data: Mapping[str, Any], key: str) -> bool:
    return len(_own(data, key)) == len(_own(data, "plain"))


def _row(name: str, data: Mapping[str, Any], key: str) -> list[str]:
    own = _own(data, key)
    cells = [shown(mean_of(own, "height")), shown(mean_of(own, "middle"))]
    cells += [seconds(mean_of(own, figure)[0]) for figure in ("seconds", "merge_seconds")]
    return [moved(own[0], data["steps"]), merging(own[0]), _inputs(own[0]), *cells, str(len(own))]


def moved(row: Row, usual: int) -> str:
    """How B was moved; `usual` is the number of steps that is not said."""
    kinds = KINDS[row["kinds"]]
    begun = f" from {row['begun']}" if row.get("begun") else ""
    steps = f" in {row['asked']} steps" if row["method"] == "learned" and row.get("asked", usual) != usual else ""
    batch = f" in batches of {row['batch']}" if row.get("batch") else ""
    return kinds if row["kinds"] == "none" else f"{kinds}, {row['method']}{begun}{steps}{batch}"


def merging(row: Row) -> str:
    """How the two were merged."""
    return f"linear, {row['healing']} steps of healing" if row["merged"] == "heal" else row["merged"]


def _inputs(row: Row) -> str:
    if row["inputs"] != "synthetic" and (row["kinds"] == "none" or row["inputs"] == 0):
        return "0"
    return TRAINING if row["inputs"] is None else str(row["inputs"])


COLUMNS = {
    "plain": "plain average",
    "permutations": "permutations, no data",
    "weights": "all kinds, no data",
    "learned-synthetic": "learned, no data",
    "learned-few": "learned, {few} inputs",
    "learned-some": "learned, {some} inputs",
    "learned": "learned, training inputs",
}


def summary(found: Results) -> str:
    """The linear merge by how B was moved: barrier and accuracy, with the accuracy of the models."""
    settings = next(iter(found.values()))
    head = ("barrier (accuracy)", *(label.format(**settings) for label in COLUMNS.values()), "the models")
    return table(head, [[NAMES[name], *_summed(data)] for name, data in found.items()])


def learned_barriers(found: Results) -> Iterator[str]:
    """For each architecture the barrier of the plain average, of all kinds without data, learned, and healed."""
    lines = []
    for name, data in found.items():
        plain, learned, healing = (_whole(data, key) for key in ("plain", "learned", "learned-heal"))
        free = _whole(data, "learned-synthetic") or _whole(data, "weights")
        if learned:
            said = f"from {_height(plain)} to {_height(learned)}"
            said += f", and with {healing[0]['healing']} steps of healing to {_height(healing)}" if healing else ""
            lines.append(f"- {NAMES[name]}: {said}; without data to {_height(free)}.\n")
    yield "".join(["The barrier falls:\n\n", *lines])


def _height(rows: Sequence[Row]) -> str:
    return f"{mean_of(rows, 'height')[0]:.2f}"


HEALED = ("plain", "weights", "learned")


def healed(found: Results) -> str:
    """Barriers after healing, by how B was moved before and the number of steps."""
    steps = sorted({row["healing"] for data in found.values() for row in data["rows"] if row["merged"] == "heal"})
    head = ("barrier", *(f"{COLUMNS[key]}, {count} steps" for count in steps for key in HEALED))
    lines = []
    for name, data in found.items():
        cells = [_healed(data, key, count) for count in steps for key in HEALED]
        lines.append([NAMES[name], *cells])
    kept = [k for k in range(len(head)) if any(line[k] != DASH for line in lines)]
    return table([head[k] for k in kept], [[line[k] for k in kept] for line in lines])


def _healed(data: Mapping[str, Any], key: str, steps: int) -> str:
    own = [_whole(data, name) for name in _keys(data) if name.startswith(f"{key}-heal")]
    return next((f"{mean_of(rows, 'height')[0]:.3f}" for rows in own if rows and rows[0]["healing"] == steps), DASH)


def _summed(data: Mapping[str, Any]) -> list[str]:
    cells = []
    for key in COLUMNS:
        own = _whole(data, key)
        cells.append(f"{mean_of(own, 'height')[0]:.2f} ({mean_of(own, 'middle')[0]:.2f})" if own else DASH)
    ends = [row["accuracies"][k] for row in data["rows"] for k in (0, -1)]
    return [*cells, f"0 ({sum(ends) / len(ends):.2f})"]


def lowest(found: Results) -> str:
    """For each architecture the row of the lowest barrier without data, of those that only move B, and of all."""
    lines = []
    for name, data in found.items():
        full = [key for key in _keys(data) if _is_whole(data, key)]
        linear = [key for key in full if _own(data, key)[0]["merged"] == "linear"]
        free = [key for key in linear if _own(data, key)[0]["inputs"] in (0, "synthetic")]
        said = [f"{what}: {_said(data, keys)}" for what, keys in zip(WHAT, (free, linear, full), strict=True)]
        lines.append(f"- {NAMES[name]}: {'; '.join(said)}.\n")
    return "".join(lines)


WHAT = ("no data", "linear merge", "any merge")


def _said(data: Mapping[str, Any], keys: Sequence[str]) -> str:
    best = min(keys, key=lambda key: mean_of(_own(data, key), "height")[0])
    own = _own(data, best)
    return f"{mean_of(own, 'height')[0]:.3f} ({moved(own[0], data['steps'])}, {merging(own[0])})"
