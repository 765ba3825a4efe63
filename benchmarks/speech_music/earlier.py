"""An earlier run's rows, of which accuracies and intervals remain: the same encoders, fewer clips of the same tasks."""

from __future__ import annotations

from typing import Any

from benchmarks.speech_music.markdown import span, table

TEXT = """## An earlier run, with every row

Of the same encoders and recipes (commit {commit}; the healed and learned rows one run each), on tasks {tasks} with
fewer clips. *Speech*: the mean of accuracy / A's on phones and finals; *way*: the share of the way from A to B on
pitch. Estimates; what remains of that run has an interval for each task alone.
"""
SPEECH, MUSIC = ("phone", "final"), "pitch"


def earlier_section(found: dict[str, Any]) -> str:
    """A line for each model."""
    ends = {"A": "A alone", "B": "B alone", "AB": "features of both side by side"}
    models = [(title, "", found[side]) for side, title in ends.items()]
    models += [(row["title"], f"{p['weight']:g}", p["tasks"]) for row in found["rows"] for p in row["points"]]
    names = (*SPEECH, MUSIC)
    body = [
        [title, weight, *(span(tasks[name], 3) for name in names), *(f"{x:.0%}" for x in scores(found, tasks))]
        for title, weight, tasks in models
    ]
    text = TEXT.format(commit=found["about"]["commit"], tasks=", ".join(names))
    return text + "\n" + table(("model", "A's share", *names, "speech", "way"), body)


def earlier_answer(found: dict[str, Any], weight: float = 0.5) -> str:
    """What that run's healed rows reached at equal shares."""
    healed = [row for row in found["rows"] if row["name"] == "heal" or row["name"].startswith("heal-")]
    points = [(row["title"], p["tasks"]) for row in healed for p in row["points"] if p["weight"] == weight]
    form = "{}: {:.0%} of speech, {:.0%} of the way"
    said = [form.format(title, *scores(found, tasks)) for title, tasks in points]
    return (
        "An aligned merge that was then healed has not been measured on all of these tasks; in an earlier run on fewer "
        f"(below), at A's share {weight:g}: {'; '.join(said)}.\n"
    )


def scores(found: dict[str, Any], tasks: dict[str, list[float]]) -> tuple[float, float]:
    """(speech, way) of a model's estimates."""
    speech = sum(tasks[name][0] / found["A"][name][0] for name in SPEECH) / len(SPEECH)
    low, high = (found[side][MUSIC][0] for side in "AB")
    return speech, (tasks[MUSIC][0] - low) / (high - low)
