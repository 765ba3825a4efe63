"""Writes `docs/experiment.md` and its pictures from `benchmarks/results/speech_music.json`; every number is from there.

python -m benchmarks.speech_music.page            # --check: exit with 1 where the page is stale
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.speech_music.appendix import (
    architectures_section,
    duration_section,
    full_size_section,
    training_section,
)
from benchmarks.speech_music.earlier import earlier_answer, earlier_section
from benchmarks.speech_music.findings import conclusion, in_figures, opening, row_of, worth
from benchmarks.speech_music.markdown import span, table
from benchmarks.speech_music.one_domain_tables import one_domain_section
from benchmarks.speech_music.pair_tables import (
    SHOWN,
    best_table,
    contrast_table,
    layer_sections,
    sweep_table,
    task_rows,
    tasks_table,
)
from benchmarks.speech_music.pictures import draw, draw_pairs
from benchmarks.speech_music.rows import LEARNING, LONG, STEPS
from benchmarks.speech_music.scoring import KEPT, MEASURES
from benchmarks.speech_music.summary import ONE_DOMAIN, RESULT
from benchmarks.speech_music.trained import steps

DOCS = RESULT.parents[2] / "docs"
PAGE = DOCS / "experiment.md"
FULL = RESULT.with_name("speech_music_full_size.json")
EARLIER = RESULT.with_name("speech_music_earlier.json")
ARCHITECTURES = RESULT.with_name("speech_music_architectures.json")
TIMES = RESULT.with_name("speech_music_times.json")
BESIDE = {
    EARLIER: earlier_section,
    ARCHITECTURES: architectures_section,
    TIMES: duration_section,
    FULL: full_size_section,
    ONE_DOMAIN: None,
}
"""What else was measured, and what the page says of it."""
Result = dict[str, Any]

INTRODUCTION = """## What was run

    python -m benchmarks.speech_music.everything                # all of it: data, encoders, merging, probing, this page
    python -m benchmarks.speech_music.everything --from merge   # from the shipped encoders on

A is the speech encoder, B the music encoder, `weight` A's share: 0.9 is the headline of arXiv 2506.11403. B is moved by
an element of the verified group (or by a control), merged with A, frozen and probed: a learned weighted sum of all
hidden states, averaged over an example's frames, and one linear layer. A probe is fitted {probe_seeds} times, each time
on other groups. Where the test side is fixed (another bank or speaker, other pitches, other tracks), a random tenth of
the training groups is left out; elsewhere the groups are dealt into three folds at random, and each is tested by a
probe that is fitted on the other two.

**Which tasks count** is decided before any merge: a speech task where A is better than B, a music task where B is
better than A, by an interval of the difference that excludes 0, and better than chance by another. **Speech**: 1000 ×
the mean over the speech tasks that count of accuracy / A's; **music**: the same with B's; **average**: their mean.
**Way**: 1000 × the share of the way from A's accuracy to B's, both summed over the music tasks that count. *Way at
{kept} %*: the longest at a weight that keeps {kept} % of the speech score, 0 where none does. Brackets are 95 %
intervals from a bootstrap over test groups, probe seeds and control seeds, not over trainings; differences are paired;
the best weight of a row is chosen anew in every draw.

**Permutations**: of the convolutions, of the feed-forward layers' hidden units, of heads and of V with O inside heads,
matched by correlation, as the paper proposes. **Every kind**: Q with K and V with O of each head take invertible maps,
the last stage before the stream scales; the stream is permuted. *Learned*: {steps} steps of Adam on the element alone,
towards the mean of the parents' last features, on {learning} s of unlabelled audio that no probe hears. *Refitted*:
each layer of the merge by least squares to what the layers of A and of the moved B give. *Healed*: {steps} steps on all
weights of the merge ({long} *for longer*), on the same audio, so that both parents' hidden states are linear functions
of the merge's (the share of their variance that is not explained, mean over layers). The same steps from A, from B and
from random weights show what healing does without a merge.
"""


TOGETHER = """## The mean over the pairs of encoders

Over the pairs that have a row. In every draw the speech and the music encoders are drawn anew, and with them the pairs
that they make, so that pairs that share an encoder do not count as two; the error of the tests is added. Intervals over
so few encoders are rather too narrow.
"""


LIMITS = """## What this does not show

- Few encoders, small and little trained: the intervals of a pair are over tests and probes, those of the mean over
  very few encoders, whose recipes differ. Each healed or learned row is one run, whose own variance the intervals lack.
- Of speech few tasks tell the encoders apart; words and transcripts are not among them.
- The released procedure is rebuilt from the description of its defects, not run from its own code.
"""


def stored(path: Path) -> Any:
    """What a JSON file holds; None where there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def read() -> tuple[dict[str, Any], dict[str, Any]]:
    """The results (of the pairs and of training), and what else was measured: architectures, times, full size."""
    return json.loads(RESULT.read_text()), {path.stem: stored(path) for path in BESIDE}


def page(found: dict[str, Any], beside: dict[str, Any]) -> str:
    """The whole page."""
    results: dict[str, Result] = found["pairs"]
    first = next(iter(results.values()))
    about = {"steps": STEPS, "long": LONG, "learning": LEARNING.seconds, "kept": KEPT // 10}
    mean = found.get("together")
    parts = ["# Does one encoder come out that hears both speech and music?\n", opening(results, mean)]
    if beside.get(EARLIER.stem) and not row_of(first, "heal"):
        parts.append(earlier_answer(beside[EARLIER.stem]))
    picture = "experiment-pairs" if mean else f"experiment-{next(iter(results))}-plane"
    parts += [
        f"![what is kept of speech, and how much music comes over]({picture}.svg)\n",
        in_figures(results, mean),
        pairs_line(results, found.get("training", {})),
        INTRODUCTION.format(**first["about"] | about),
        together_section(results, mean) if mean else "",
    ]
    if beside.get(ONE_DOMAIN.stem):
        parts.append(one_domain_section(beside[ONE_DOMAIN.stem]))
    for name, result in results.items():
        parts += pair_section(name, result, found.get("training", {}))
    parts.append(conclusion(results))
    shown = {path: make(beside[path.stem]) for path, make in BESIDE.items() if make and beside.get(path.stem)}
    parts += [shown.pop(EARLIER, ""), shown.pop(ARCHITECTURES, ""), LIMITS]
    if found.get("training"):
        parts.append(training_section(found["training"]))
    return "\n".join(filter(None, [*parts, *shown.values()]))


def pair_section(name: str, result: Result, training: dict[str, Any]) -> Iterator[str]:
    """All tables of one pair of encoders."""
    about = result["about"]
    yield f'## The pair "{name}"\n'
    yield (
        f"A is `{about['a']}`, B is `{about['b']}`: {about['parameters']:,} parameters, {about['layers']} "
        f"{norms(about)} layers of {about['hidden']}. "
        f"{steps(about, training)}Calibrated on {about['calibration_seconds']} s, half speech and half music"
        f"{', encoders run in bfloat16' if about['bfloat16'] else ''}. {about['models']} merged models, "
        f"{about['all_minutes']} CPU minutes to align, merge, teach and probe them, {about['cpu_minutes']} of them for "
        f"probing. {certified(about)} torch {about['torch']}"
        f"{', commit ' + about['commit'] if about.get('commit') else ''}.\n"
    )
    if about.get("kept"):
        yield (
            "Of an earlier run, whose encoders and *linear interpolation* came out the same to the last digit: "
            f"{'; '.join(about['kept'])}.\n"
        )
    yield "### The tasks, and how far the encoders are apart before any merge\n"
    yield tasks_table(result)
    if result["rows"]:
        yield f"![what is kept of speech, and how much music comes over](experiment-{name}-plane.svg)\n"
        yield "### Each step over the weight\n"
        yield f"![scores over the weight](experiment-{name}-sweep.svg)\n"
        yield sweep_table(result)
        yield "### Each step at its best weight\n"
        yield best_table(result)
        yield "### Is it the alignment?\n"
        yield contrast_table(result)
        yield "### Task by task\n"
        yield task_rows(result)
    if "layers" in result:
        yield from layer_sections(name, result["layers"])


def pairs_line(results: dict[str, Result], training: dict[str, Any]) -> str:
    """Where there are several pairs: the norms and the training of each."""
    if len(results) < 2:
        return ""
    abouts = {name: result["about"] for name, result in results.items()}
    said = [f'"{name}" has {norms(about)} layers. {steps(about, training)}' for name, about in abouts.items()]
    return "".join(said).strip() + "\n"


def norms(about: dict[str, Any]) -> str:
    """Where the layers of a pair's encoders have their norms."""
    return "pre-norm" if about.get("pre_norm") else "post-norm"


def together_section(results: dict[str, Result], together: Result) -> str:
    """What alignment is worth pair by pair and over pairs; then rows and differences over the pairs that have them."""
    titles = {row["name"]: row["title"] for row in together["rows"]}
    rows = [
        [row["title"], str(len(row["pairs"])), "–" if at is None else f"{at:g}"]
        + [span(row["best"][key]) for key in ("transferred", "transferred_minus_linear")]
        for row in together["rows"]
        for at in [row["best"]["transferred_at"]]
    ]
    best = table(("step", "pairs", "at A's share", f"way at {KEPT // 10} %", "minus linear's"), rows)
    contrasts = [
        [titles[one["row"]], titles[one["control"]], f"{one['weight']:g}", str(len(one["pairs"]))]
        + [span(one[name], sign=True) for name in MEASURES]
        for one in together["contrasts"]
    ]
    equal = table(("step", "minus", "at A's share", "pairs", *SHOWN), contrasts)
    each = worth(results, together, together["pairs"])
    return f"{TOGETHER}\n{each}\n{best}\n{equal}"


def certified(about: dict[str, Any]) -> str:
    """How many alignments were proved."""
    if "certified" not in about:
        return ""
    return (
        "Each alignment was proved to leave B's function unchanged; largest relative error of the "
        f"{about['certified']} proofs of the last processes {about['worst_certificate']:.0e}, in float64;"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page is stale")
    options = parser.parse_args()
    found, beside = read()
    text = page(found, beside)
    if options.check:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == text else f"stale: {PAGE.name}; write it anew")
    PAGE.write_text(text)
    draw_pairs(DOCS, found["pairs"])
    for name, result in found["pairs"].items():
        draw(DOCS, name, result)


if __name__ == "__main__":
    main()
