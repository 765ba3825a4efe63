"""What was found, in sentences made from the figures alone, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.speech_music.rows import LONG, STEPS
from benchmarks.speech_music.scoring import KEPT

Result = dict[str, Any]
GAP_CLOSED = 500
"""The share of the way to B that is aimed at, of 1000."""
BY_ALIGNMENT = ("proposed", "kinds-weights", "kinds", "learned")
ALIGNED = ("proposed", "kinds-weights", "kinds", "learned", "refit", "learned-refit", "heal", "heal-learned", "long")
WITH = {"refitted": ("refit", "learned-refit"), "healed": ("heal", "heal-learned"), "longer": ("long",)}
WITHOUT = {
    "refitted": ("refit-as-is",),
    "healed": ("heal-as-is", "heal-random", "heal-a", "scratch"),
    "longer": ("long-as-is", "long-scratch"),
}
"""Family -> the rows that spend its budget after an alignment; without one, or without a merge."""


def points(values: Sequence[float]) -> str:
    """A difference of scores with its interval."""
    return "{:+.0f} [{:+.0f}, {:+.0f}]".format(*values)


def verdict(values: Sequence[float]) -> str:
    """What an interval of a difference says."""
    return "better" if values[1] > 0 else "worse" if values[2] < 0 else "not distinguishable"


def share(values: Sequence[float]) -> str:
    """A share of 1000 with its interval, in percent."""
    return "{:.0%} [{:.0%}, {:.0%}]".format(*(value / 1000 for value in values))


def row_of(result: Result, name: str) -> dict[str, Any] | None:
    """A row by its name."""
    return next((row for row in result["rows"] if row["name"] == name), None)


def at(row: dict[str, Any], weight: float) -> dict[str, Any] | None:
    """A row at a weight."""
    return next((point for point in row["points"] if point["weight"] == weight), None)


def opening(results: dict[str, Result]) -> str:
    """The answer, of the first pair, in three sentences: what is reached, which step does it, what is possible."""
    result = next(iter(results.values()))
    rows = [row for row in (row_of(result, name) for name in ALIGNED) if row]
    best = max(rows, key=lambda row: row["best"]["transferred"][0])
    return f"{_reached(result, best)} {_steps(result)} {_bound(result)}\n"


def _reached(result: Result, row: dict[str, Any]) -> str:
    best, linear = row["best"], row_of(result, "linear")
    assert linear is not None
    gain = best["transferred_minus_linear"]
    goal, surely = best["transferred"][0] >= GAP_CLOSED, verdict(gain) == "better"
    answer = "Yes" if goal and surely else "Perhaps" if goal else "In part" if surely else "No"
    there = at(row, best["transferred_at"]) if best["transferred_at"] is not None else None
    which = (
        f"the best ({row['title']}, A's share {there['weight']:g}) keeps {share(there['speech'])} and goes "
        f"{share(there['transfer'])} of the way from A to B"
        if there
        else "none goes any of the way from A to B"
    )
    return (
        f"**{answer}**: of all merges of a speech encoder A with an aligned music encoder B that keep "
        f"{KEPT / 10:.0f} % of the speech score, {which} on the music tasks on which B is better, where half was aimed "
        f"at and linear interpolation at its best goes {share(linear['best']['transferred'])}. With the weight chosen "
        f"anew in every draw, and 0 where none keeps {KEPT / 10:.0f} %, the difference is {points(gain)} thousandths."
    )


def _steps(result: Result) -> str:
    """Alignment without learning of weights, then each budget with an alignment and without."""
    parts = [f"Aligned and merged, without more: {_list(result, BY_ALIGNMENT)}"]
    budgets = {
        "refitted": "refitted layer after layer",
        "healed": f"with {STEPS} steps of learning from both parents",
        "longer": f"with {LONG} steps",
    }
    for family, title in budgets.items():
        said, without = (_list(result, names[family]) for names in (WITH, WITHOUT))
        if said or without:
            parts.append(f"{title}: {', and without an alignment: '.join(filter(None, (said, without)))}")
    return "; ".join(parts) + " (speech kept / way gone, each at its best weight)."


def _list(result: Result, names: Sequence[str]) -> str:
    rows = [row for row in (row_of(result, name) for name in names) if row]
    return ", ".join(f"{row['title']} {_where(row)}" for row in rows)


def _where(row: dict[str, Any]) -> str:
    """Speech / way where the row goes farthest while keeping speech; where it never does, at its best average."""
    best = row["best"]
    point = at(row, best["weight"] if best["transferred_at"] is None else best["transferred_at"])
    assert point is not None
    return f"{point['speech'][0] / 1000:.0%} / {point['transfer'][0] / 1000:.0%}"


def _bound(result: Result) -> str:
    both = result["AB"]
    return (
        f"The features of both encoders side by side, twice as many, keep {both['speech'][0] / 10:.0f} % of the speech "
        f"score and go {share(both['transfer'])} of the way: what a merge lacks of that is lost in merging."
    )


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
    parts.append(
        "\nThe mean of two units of equal variance that correlate at r has (1 + r) / 2 of that variance; what is "
        "lost is what only one of them knew. Where r is this low no permutation can make the mean compute what a "
        "parent did: the encoders hold other features there, not the same ones in another order.\n"
    )
    return "\n".join(parts)
