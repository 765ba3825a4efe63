"""What the page says of pairs of encoders of one domain."""

from __future__ import annotations

from typing import Any

from benchmarks.speech_music.agreement import SECONDS
from benchmarks.speech_music.markdown import span, table
from benchmarks.speech_music.one_domain import MEASURES
from benchmarks.speech_music.trained import runs, taught

Result = dict[str, Any]
SIDES = {"A": "A alone", "B": "B alone", "AB": "features of both side by side, twice as many"}
SECTION = """## Two encoders of one domain

    python -m benchmarks.speech_music.everything --only merge --pairs {names}

Two encoders of the same domain, from different seeds, merged half and half: aligned, taught and healed on audio of
that domain alone. A task counts where both are above chance by an interval, before any merge. **Probes**: 1000 × the
mean over these tasks of accuracy / the mean accuracy of both parents. **Features**: 1000 × the share of the variance of
both parents' hidden states that is a linear function of the merge's, fitted on {train} s and measured on {heldout} s of
held-out audio, mean over layers and parents. **Barrier**: the mean of the two parents minus the merge; what healing
brings in can make it negative. Intervals draw test groups, probe seeds and windows of held-out audio anew, not
trainings.
"""


EARLIER = """ Measured earlier: probes fitted and tested on one split of the groups, learning and healing on 1200 s, in
float32."""
"""What is said of results whose `about` has "earlier": they are kept until the pair is measured again."""


def one_domain_section(results: dict[str, Result]) -> str:
    """The tables of every pair."""
    said = [SECTION.format(names=" ".join(results), **SECONDS)]
    for name, result in results.items():
        a, b = runs(result["about"])
        about = (
            f"A is {a}, B is {b}. {taught((a, b))}{finding(result)}{EARLIER * result['about'].get('earlier', False)}"
        )
        said.append(f"### {name}\n\n{about}\n\n{counted(result)}\n\n{scores(result)}\n{contrasts(result)}")
    return "\n".join(said)


def finding(result: Result) -> str:
    """The barriers of both measures, row by row."""
    barriers = {row["title"]: row["barrier"] for row in result["rows"]}
    said = [
        f"in {name} " + ", ".join(f"{barrier[name][0]:.0f} ({title})" for title, barrier in barriers.items())
        for name in reversed(MEASURES)
    ]
    return f"**The barrier of 1000 is {'; '.join(said)}**."


def counted(result: Result) -> str:
    """Which tasks count."""
    titles = [[task["title"] for task in result["tasks"] if task["counts"] is counts] for counts in (True, False)]
    return f"Tasks that count: {'; '.join(titles[0])}." + (f" Not: {'; '.join(titles[1])}." if titles[1] else "")


def scores(result: Result) -> str:
    """Parents, then merges: probes and features, their barriers, and the shares of A and B behind the last layer."""
    lines = [[title, "", *_cells(result[side], parent=True)] for side, title in SIDES.items()]
    lines += [[row["title"], f"{row['weight']:g}", *_cells(row)] for row in result["rows"]]
    head = ("model", "A's share", "probes", "barrier", "features", "barrier", "of A's last layer", "of B's")
    return table(head, lines)


def _cells(one: Result, parent: bool = False) -> list[str]:
    found = []
    for name in MEASURES:
        found.append(span(one[name]) if name in one else "–")
        found.append("–" if parent or name not in one else span(one["barrier"][name], sign=True))
    return [*found, *(f"{one['layers'][side][-1]:.3f}" if "layers" in one else "–" for side in "AB")]


def contrasts(result: Result) -> str:
    """Differences at equal weights."""
    titles = {row["name"]: row["title"] for row in result["rows"]}
    lines = [
        [titles[one["row"]], titles[one["control"]], f"{one['weight']:g}", *(span(one[m], sign=True) for m in MEASURES)]
        for one in result["contrasts"]
    ]
    return table(("step", "minus", "at A's share", *MEASURES), lines)
