"""What was found, in sentences made from the figures alone, whatever they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.speech_music.markdown import span, table
from benchmarks.speech_music.rows import LONG, STEPS
from benchmarks.speech_music.scoring import KEPT

Result = dict[str, Any]
Row = dict[str, Any]
GAP_CLOSED = 500
"""The share of the way to B that is aimed at, of 1000."""
EQUAL = 0.5
"""A's share in the table of the opening."""
BY_ALIGNMENT = ("proposed", "kinds-weights", "kinds", "learned")
WITH = {"refitted": ("refit", "learned-refit"), "healed": ("heal", "heal-learned"), "longer": ("long", "long-learned")}
WITHOUT = {"refitted": ("refit-as-is",), "healed": ("heal-as-is",), "longer": ("long-as-is",)}
"""Family -> the rows that spend its budget after an alignment, and those that spend it on a merge without one."""
ALIGNED = (*BY_ALIGNMENT, *(name for names in WITH.values() for name in names))
BUDGETS = {
    "refitted": "refitting the layers after the merge",
    "healed": "some learning after the merge",
    "longer": "long learning after the merge",
}
STAGES = {
    "merged": ("linear", "proposed", "learned"),
    "merged, then refitted layer after layer": ("refit-as-is", "refit", "learned-refit"),
    f"merged, then healed in {STEPS} steps": ("heal-as-is", "heal", "heal-learned"),
    f"merged, then healed in {LONG} steps": ("long-as-is", "long", "long-learned"),
}
"""What is done -> the rows that do it: not aligned, by permutations, by every kind."""

CONTROLS = {
    "healed": {("heal", "heal-random"): ""},
    "longer": {("long", "long-random"): "", ("heal", "heal-random"): f" after {STEPS} steps"},
}
"""Family -> the alignment and its control, with as many steps of healing or, where that is not there, with fewer."""
SURELY = ", surely less"
WORTH = {
    f"{STEPS} steps, minus not aligned": ("heal", "heal-as-is"),
    f"{STEPS} steps, minus a random element": ("heal", "heal-random"),
    f"{LONG} steps, minus not aligned": ("long", "long-as-is"),
    f"{LONG} steps, minus a random element": ("long", "long-random"),
}
"""What the alignment is worth: permutations minus what, both healed in as many steps."""

FIGURES = """Half of each encoder: how much of the speech score is kept, and how much of the way to the music encoder is
gone. *Refitted* and *healed* are two ways to learn from both encoders on unlabelled audio, explained
[below](#what-was-run).

"""


def verdict(values: Sequence[float]) -> str:
    """What an interval of a difference says."""
    return "better" if values[1] > 0 else "worse" if values[2] < 0 else "not distinguishable"


def percent(value: float) -> str:
    """A share of 1000 in percent."""
    return f"{value / 10:.0f} %"


def rows_of(result: Result, names: Iterable[str]) -> list[Row]:
    """The rows of these names that there are."""
    return [row for name in names for row in result["rows"] if row["name"] == name]


def row_of(result: Result, name: str) -> Row | None:
    """A row by its name."""
    return next(iter(rows_of(result, [name])), None)


def at(row: Row, weight: float | None) -> dict[str, Any] | None:
    """A row at a weight."""
    return next((point for point in row["points"] if point["weight"] == weight), None)


def opening(results: dict[str, Result], mean: Result | None = None) -> str:
    """The answer in a few sentences: whether it works, with what, what less learning and no merge do, what does not.

    Of the step that goes furthest for the first pair: of its mean over pairs of encoders, if several have it.
    """
    name, first = next(iter(results.items()))
    best = max(rows_of(first, ALIGNED), key=lambda row: row["best"]["transferred"][0])
    shared = mean and row_of(mean, best["name"])
    of, row = (mean, shared) if mean and shared else (first, best)
    said = (_answer(row), _with_what(of, row, results), _sooner(of, row), _unmerged(name, first, row), _alone(of))
    return " ".join(filter(None, said)) + "\n"


def _answer(row: Row) -> str:
    best, there, over = row["best"], at(row, row["best"]["transferred_at"]), _over(row)
    if there is None:
        return _too_little(row, over)
    reached = best["transferred"][0] >= GAP_CLOSED
    surely = verdict(best["transferred_minus_linear"]) == "better"
    answer, but = {
        (True, True): ("Yes", ""),
        (True, False): ("Perhaps", f"; {_doubt(there)} is within the error of the tests"),
        (False, True): ("In part", ", less than was aimed at"),
        (False, False): ("No", ", not surely more than without an alignment"),
    }[reached, surely]
    return (
        f"**{answer}**: one encoder comes out that does {percent(there['speech'][0])} as well as the speech encoder on "
        f"speech and goes {percent(there['transfer'][0])} of the way from it to the music encoder on music{over}{but}."
    )


def _too_little(row: Row, over: str) -> str:
    """Where no weight keeps the speech: what half of each does."""
    there, of_no_use = at(row, EQUAL), "**No**: no merge that keeps what the speech encoder can do hears any music more"
    if there is None:
        return f"{of_no_use}{over}."
    return (
        f"{of_no_use}; half of each does {percent(there['speech'][0])} as well as the speech encoder on speech and "
        f"goes {percent(there['transfer'][0])} of the way from it to the music encoder on music{over}."
    )


def _over(row: Row) -> str:
    """Of how many pairs it is the mean."""
    return f", on average over {len(row['pairs'])} pairs of encoders" if "pairs" in row else ""


def _doubt(there: dict[str, Any]) -> str:
    low = there["speech"][1] < KEPT
    return "whether so much of the speech is kept" if low else "whether that is more than without an alignment"


def _with_what(result: Result, row: Row, results: dict[str, Result]) -> str:
    budget, weight = BUDGETS.get(row["family"]), row["best"]["transferred_at"]
    if budget is None or weight is None:
        return f"The best alignment is {row['title']}."
    order = row["title"].split(",")[0]
    control, unsure = _than_random(result, row["family"], weight)
    beside = rows_of(result, WITHOUT[row["family"]])
    twins = [(point["transfer"][0], twin) for twin in beside if (point := at(twin, weight))]
    if not twins:
        return f"It takes an alignment ({order}) and {budget}, on unlabelled audio."
    way, twin = max(twins, key=lambda one: one[0])
    less = _less(result, row["name"], twin["name"], weight)
    said = f"It takes an alignment ({order}) and {budget}, on unlabelled audio"
    if unsure or less != SURELY:
        said = f"It takes {budget}, on unlabelled audio; that it takes an alignment too ({order}) is not shown"
    if "pairs" in row:
        found = [_less(results[name], row["name"], twin["name"], weight) for name in row["pairs"]]
        less += f" ({found.count(SURELY)} of the pairs say so by themselves)"
    return f"{said}: without the alignment the same learning goes {percent(way)} of the way{less}{control}."


def _than_random(result: Result, family: str, weight: float) -> tuple[str, bool]:
    """What the alignment gains over a random element of the same group, and whether that is unsure."""
    for asked, steps in CONTROLS.get(family, {}).items():
        for one in result.get("contrasts", ()):
            if (one["row"], one["control"], one["weight"]) == (*asked, weight):
                unsure = verdict(one["average"]) != "better"
                said = f"; with the units in a random order instead, {_lower(one['average'])}{steps}"
                return said, unsure
    return "", False


def _sooner(result: Result, row: Row) -> str:
    """What the alignment is worth after fewer steps of healing, if the answer is about more."""
    with_it, without = (row_of(result, name) for name in ("heal", "heal-as-is"))
    if row["family"] != "longer" or with_it is None or without is None:
        return ""
    kept = [percent(point["speech"][0]) for one in (with_it, without) if (point := at(one, EQUAL))]
    asked = ("heal", "heal-as-is", EQUAL)
    gain = next(c["speech"] for c in result["contrasts"] if (c["row"], c["control"], c["weight"]) == asked)
    sure = "surely less" if verdict(gain) == "better" else "not surely less"
    return (
        f"After {STEPS} steps of it, the aligned merge keeps {kept[0]} of the speech and the other {kept[1]}, {sure}."
    )


def _unmerged(name: str, result: Result, row: Row) -> str:
    """What the learning does that the answer is about, where it is begun from one encoder."""
    rows = {"longer": ("long-a", "long-b"), "healed": ("heal-a", "heal-b")}.get(row["family"], ())
    points = [one["points"][0] for one in rows_of(result, rows)]
    if len(points) < 2:
        return ""
    a, b = ([percent(point[key][0]) for key in ("speech", "transfer")] for point in points)
    asked = [(row["name"], one, row["best"]["transferred_at"]) for one in rows]
    gains = [c["average"] for c in result["contrasts"] if (c["row"], c["control"], c["weight"]) in asked]
    better = f"; in the better of these cases {_lower(min(gains), ' than after the merge')}" if gains else ""
    return (
        f"As much learning without a merge keeps {a[0]} of the speech and goes {a[1]} of the way where it begins at "
        f"the speech encoder, {b[0]} and {b[1]} where it begins at the music encoder ({name}){better}."
    )


def _lower(gain: Sequence[float], than: str = "") -> str:
    """Whether the mean of both scores is surely lower, from how much higher it is elsewhere."""
    sure = verdict(gain) == "better"
    return f"the mean of the two scores is {'' if sure else 'not '}surely lower{than}, by {span(gain)} of 1000"


def _less(result: Result, row: str, twin: str, weight: float) -> str:
    """Whether `twin` goes less far than `row` by an interval, where the two were compared."""
    asked = (row, twin, weight)
    gains = [c["transfer"] for c in result.get("contrasts", ()) if (c["row"], c["control"], c["weight"]) == asked]
    return "" if not gains else SURELY if verdict(gains[0]) == "better" else ", not surely less"


def _alone(result: Result) -> str:
    way = max(row["best"]["transferred"][0] for row in rows_of(result, BY_ALIGNMENT))
    if way >= GAP_CLOSED:
        return f"An alignment alone, without learning after the merge, goes {percent(way)} of the way."
    return (
        f"An alignment alone does not do it: without learning after the merge, none that keeps the speech goes more "
        f"than {percent(max(way, 0))} of the way."
    )


def in_figures(results: dict[str, Result], mean: Result | None = None) -> str:
    """Speech and way of each step at equal shares, aligned and not, and what both know; the mean, then pairs."""
    several, lines = len(results) > 1, []
    for name, result in {"mean (of pairs)": mean or {"rows": []}, **results}.items():
        known = {row["name"]: row for row in result["rows"]}
        for title, names in STAGES.items():
            cells = [_scores(known.get(one)) for one in names]
            if any(cell != "–" for cell in cells):
                lines.append([name] * several + [title, *cells])
        if "AB" in result:
            bound = "features of both encoders side by side, twice as many"
            lines.append([name] * several + [bound, _both(result["AB"]), "–", "–"])
    head = ["pair"] * several + ["speech kept / way gone", "not aligned", "permutations", "every kind, learned"]
    return FIGURES + table(head, lines)


def worth(results: dict[str, Result], mean: Result, encoders: dict[str, Sequence[str]]) -> str:
    """What the alignment gains after the same healing, in speech and in way: each pair, then the mean over pairs."""
    found = {
        name: {(c["row"], c["control"]): c for c in result["contrasts"] if c["weight"] == EQUAL}
        for name, result in {**results, "mean": mean}.items()
    }
    own = {name: known for name, known in found.items() if known.keys() & set(WORTH.values())}
    tables = []
    for key, title in {"speech": "speech kept, of 1000", "transfer": "way gone, of 1000"}.items():
        lines = [
            [name, " and ".join(encoders.get(name, ["–"])), *(_gain(known.get(both), key) for both in WORTH.values())]
            for name, known in own.items()
        ]
        tables.append(table((title, "encoders", *WORTH), lines))
    return "\n".join(tables)


def _gain(contrast: dict[str, Any] | None, key: str) -> str:
    if contrast is None:
        return "–"
    return span(contrast[key], sign=True) + (f" over {len(contrast['pairs'])}" if "pairs" in contrast else "")


def _scores(row: Row | None) -> str:
    point = row and at(row, EQUAL)
    over = f" ({len(row['pairs'])})" if row and "pairs" in row else ""
    return _both(point) + over if point else "–"


def _both(point: dict[str, Any]) -> str:
    return " / ".join(percent(point[key][0]) for key in ("speech", "transfer"))


def conclusion(results: dict[str, Result]) -> str:
    """What the matched correlations say about the limits of permutations."""
    parts = ["## Why alignment alone brings so little\n"]
    for name, result in results.items():
        if "layers" not in result:
            continue
        groups = result["layers"]["groups"]
        for role in dict.fromkeys(group["role"] for group in groups):
            own = [group for group in groups if group["role"] == role]
            aligned, chance = (sum(g[key] for g in own) / len(own) for key in ("aligned", "random"))
            parts.append(
                f"- {name}, {role}: matched units correlate at {aligned:.2f} on held-out audio, against {chance:.2f} "
                f"with an untrained encoder: {aligned**2:.0%} of the variance of a unit is its partner's."
            )
    parts += [f"- {name}, {said}" for name, result in results.items() if (said := _larger(result))]
    parts.append(
        "\nThe mean of two units of equal variance that correlate at r has (1 + r) / 2 of that variance; what is "
        "lost is what only one of them knew. Where r is this low no permutation can make the mean compute what a "
        "parent did: the encoders hold other features there, not the same ones in another order.\n"
    )
    return "\n".join(parts)


def _larger(result: Result) -> str:
    """How many other elements are better, and how many worse, than the permutations at equal shares."""
    contrasts = [one for one in result.get("contrasts", ()) if one["control"] == "proposed" and one["weight"] == EQUAL]
    if not contrasts:
        return ""
    found = [verdict(one["average"]) for one in contrasts]
    better, worse = (str(found.count(word) or "none") for word in ("better", "worse"))
    return (
        f"half and half: of {len(found)} elements of other groups or methods, {better} better than permutations by the "
        f"average score and {worse} worse, by intervals."
    )
