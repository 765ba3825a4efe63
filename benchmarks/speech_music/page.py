"""Writes `docs/experiment.md` and its pictures from `benchmarks/results/speech_music.json`; every number is from there.

python -m benchmarks.speech_music.page            # --check: exit with 1 where the page is stale
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.speech_music.appendix import duration_section, full_size_section, training_section
from benchmarks.speech_music.findings import conclusion, opening
from benchmarks.speech_music.markdown import span, table
from benchmarks.speech_music.pictures import draw
from benchmarks.speech_music.rows import LEARNING, STEPS
from benchmarks.speech_music.scoring import MEASURES, SCORES
from benchmarks.speech_music.summary import RESULT

DOCS = RESULT.parents[2] / "docs"
PAGE = DOCS / "experiment.md"
FULL = RESULT.with_name("speech_music_full_size.json")
TIMES = RESULT.with_name("speech_music_times.json")
SHOWN = (0.5, 0.7, 0.9)
FAMILIES = {
    "paper": "the paper's rows, each alignment proved",
    "kinds": "every kind of symmetry, each alignment proved",
    "healed": "merged, then healed on unlabelled audio",
    "unmerged": "the same steps without a merge",
    "ours": "more of ours",
    "control": "controls",
    "calibration": "other calibration",
}
Result = dict[str, Any]

INTRODUCTION = """## What was run

    python -m benchmarks.speech_music.everything                # all of it: data, encoders, merging, probing, this page
    python -m benchmarks.speech_music.everything --from merge   # from the shipped encoders on

A is the speech encoder, B the music encoder, `weight` A's share: 0.9 is the paper's headline. B is moved by an element
of the verified group (or by a control), merged with A, frozen and probed: a learned weighted sum of all hidden states,
averaged over an example's frames, and one linear layer. A probe is fitted {probe_seeds} times, each time without a
random tenth of its training groups. **Speech**: 1000 × the mean over the speech tasks of accuracy / A's; **music**: the
same with B's; **average**: their mean; **transfer**: 1000 × the share of the way from A's accuracy to B's, both summed
over the music tasks where B is better than A. *Transfer at 97 %*: the largest at a weight that keeps 97 % of the
speech score, in percent; 0 where none does. Brackets are 95 % intervals from a bootstrap over test groups, probe seeds
and control seeds; differences are paired. The best weight of a row is chosen anew in every draw, among the weights
shown in the pictures.

**Every kind**: Q with K and V with O of each head take invertible maps, the last stage before the stream scales; the
stream, behind its norms, is permuted. *Learned*: {steps} steps of Adam on the element, towards the mean of the parents'
last features, on {learning} s of unlabelled audio that no probe hears. *Healed*: as many steps on all weights of the
merge, on the same audio, so that both parents' hidden states are linear functions of the merge's (the share of their
variance that is not explained, mean over layers); or, *on mean features*, towards the mean of their last features.
The same steps from A, from B and from random weights show what healing does without a merge; the features of both
encoders side by side, twice as many, are what a merge could keep at most.
"""


LIMITS = """## What this does not show

- The encoders are small and little trained. Where A is as good as B on a music task, a merge has nothing to bring
  over; where that is so on most, the music score, measured by B, is above 1000 for A.
- Few encoders: a pair's intervals are over test groups, probe seeds and control seeds; those of the mean over pairs
  draw the pairs too, and of so few that says little.
- Tasks on which both encoders are near chance, or near each other, widen the intervals and decide nothing.
- Spoken digits are asked of both encoders and not scored: three speakers, one recording of each digit, make 30 test
  examples.
- The released procedure is rebuilt from the description of its defects, not run from its own code.
"""


def read() -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any] | None]:
    """The results (of the pairs, of all together, of training), those at full size, and minutes, if there are any."""
    full, times = (json.loads(path.read_text()) if path.exists() else None for path in (FULL, TIMES))
    return json.loads(RESULT.read_text()), full, times


def page(found: dict[str, Any], full: dict[str, Any] | None = None, times: dict[str, Any] | None = None) -> str:
    """The whole page."""
    results: dict[str, Result] = found["pairs"]
    parts = ["# Does aligning a speech and a music encoder make a better merge?\n"]
    first = next(iter(results.values()))
    parts += [
        opening(results, found["together"]),
        INTRODUCTION.format(**first["about"], steps=STEPS, learning=LEARNING.seconds),
    ]
    for name, result in results.items():
        parts += pair_section(name, result)
    parts += [conclusion(results), LIMITS]
    if found.get("training"):
        parts.append(training_section(found["training"]))
    if times is not None:
        parts.append(duration_section(times))
    if full is not None:
        parts.append(full_size_section(full))
    return "\n".join(parts)


def pair_section(name: str, result: Result) -> Iterator[str]:
    """All tables of one pair of encoders."""
    about = result["about"]
    yield f'## The pair "{name}"\n'
    yield (
        f"A is `{about['a']}`, B is `{about['b']}`: {about['parameters']:,} parameters, {about['layers']} layers of "
        f"{about['hidden']}. Calibrated on {about['calibration_seconds']} s, half speech and half music"
        f"{', encoders run in bfloat16' if about['bfloat16'] else ''}. {about['models']} merged models, "
        f"{about['cpu_minutes']} CPU minutes of probing. {certified(about)}\n"
    )
    if about.get("kept"):
        yield (
            "Of an earlier run, whose encoders and *linear* came out the same to the last digit: "
            f"{'; '.join(about['kept'])}.\n"
        )
    yield "### The tasks and what each encoder knows\n"
    yield tasks_table(result)
    if result["rows"]:
        yield "### Scores\n"
        yield f"![scores over the weight](experiment-{name}-sweep.svg)\n"
        yield score_table(result)
        yield "### Is it the alignment or the perturbation?\n"
        yield contrast_table(result)
        yield "### Task by task\n"
        yield task_rows(result)
    if "layers" in result:
        yield from layer_sections(name, result["layers"])


def certified(about: dict[str, Any]) -> str:
    """How many alignments were proved."""
    if "certified" not in about:
        return ""
    return (
        "Each alignment was proved to leave B's function unchanged; largest relative error of the "
        f"{about['certified']} proofs of the last processes {about['worst_certificate']:.0e}, in float64."
    )


def tasks_table(result: Result) -> str:
    """Tasks with their sizes, chance, and both encoders' accuracies."""
    head = ("task", "domain", "classes", "fitted on", "tested on", "groups", "chance", "A", "B")
    rows = []
    for task in result["tasks"]:
        title = task["title"] + ("" if task["scored"] else ", not scored")
        counts = (str(task[key]) for key in ("classes", "fitted", "tested", "groups"))
        both = (span(result[side]["tasks"][task["name"]], 3) for side in "AB")
        rows.append([title, task["domain"], *counts, f"{task['chance']:.3f}", *both])
    rows.append(["**scores of A**: " + ", ".join(f"{s} {span(result['A'][s])}" for s in SCORES), *[""] * 8])
    rows.append(["**scores of B**: " + ", ".join(f"{s} {span(result['B'][s])}" for s in SCORES), *[""] * 8])
    if "AB" in result:
        both = ", ".join(f"{s} {span(result['AB'][s])}" for s in SCORES)
        rows.append([f"**features of both side by side**: {both}", *[""] * 8])
    return table(head, rows)


def score_table(result: Result) -> str:
    """Every row: the average at three weights, then its best weight against linear's own best."""
    head = ["B' is", *[f"speech / music / average at {w:g}" for w in SHOWN]]
    head += ["best at", "average there", "minus linear's best: average", "speech", "music", "transfer at 97 %"]
    rows = []
    for family, title in FAMILIES.items():
        own = [row for row in result["rows"] if row["family"] == family]
        if own:
            rows.append([f"**{title}**", *[""] * (len(head) - 1)])
        rows += [score_row(row) for row in own]
    return table(head, rows)


def score_row(row: dict[str, Any]) -> list[str]:
    """One row of `score_table`."""
    by_weight = {point["weight"]: point for point in row["points"]}
    cells = [" / ".join(f"{by_weight[w][score][0]:.0f}" for score in SCORES) if w in by_weight else "–" for w in SHOWN]
    best = row["best"]
    differences = [span(best["minus_linear"][score], sign=True) for score in ("average", "speech", "music")]
    if row["name"] == "linear":
        differences = ["–"] * 3
    moved = span([x / 10 for x in best["transferred"]]) if "transferred" in best else "–"
    return [row["title"], *cells, f"{best['weight']:g}", span(best["average"]), *differences, moved]


def contrast_table(result: Result) -> str:
    """Differences at equal weight: from linear, then from every control."""
    head = ("weight", "row", "minus", *MEASURES)
    titles = {row["name"]: row["title"] for row in result["rows"]}
    rows = []
    for name in ("proposed", "cnn-all", "random", "scrambled"):
        for point in next((row["points"] for row in result["rows"] if row["name"] == name), []):
            if "minus_linear" in point:
                cells = differences(point["minus_linear"])
                rows.append([f"{point['weight']:g}", titles[name], titles["linear"], *cells])
    for one in result["contrasts"]:
        cells = differences(one)
        rows.append([f"{one['weight']:g}", titles[one["row"]], titles[one["control"]], *cells])
    return table(head, rows)


def differences(found: dict[str, Any]) -> list[str]:
    """A cell for each measure."""
    return [span(found[name], sign=True) if name in found else "–" for name in MEASURES]


def task_rows(result: Result) -> str:
    """Accuracy on every task at three weights."""
    names = [task["name"] for task in result["tasks"] if task["scored"]]
    wanted = ("linear", "proposed", "cnn", "cnn-all", "random", "scrambled", "noise", "released")
    sides = {"A": "A alone", "B": "B alone", "AB": "features of both side by side"}
    rows = [
        [title, "", *[f"{result[side]['tasks'][n][0]:.3f}" for n in names]]
        for side, title in sides.items()
        if side in result
    ]
    for row in result["rows"]:
        taught = row["family"] in ("kinds", "healed", "unmerged")
        for point in row["points"]:
            if taught or (row["name"] in wanted and point["weight"] in SHOWN):
                rows.append([row["title"], f"{point['weight']:g}", *[f"{point['tasks'][n][0]:.3f}" for n in names]])
    return table(("B' is", "weight", *names), rows)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page is stale")
    options = parser.parse_args()
    found, *others = read()
    text = page(found, *others)
    if options.check:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == text else f"stale: {PAGE.name}; write it anew")
    PAGE.write_text(text)
    for name, result in found["pairs"].items():
        draw(DOCS, name, result)


if __name__ == "__main__":
    main()
