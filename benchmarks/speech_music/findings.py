"""What was found, in sentences made from the figures alone, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.speech_music.rows import STEPS
from benchmarks.speech_music.scoring import KEPT

Result = dict[str, Any]
GAP_CLOSED = 0.5
SEPARATE = {"random": "a random valid permutation", "scrambled": "an invalid scrambling", "noise": "noise"}
SEPARATE["released"] = "the paper's released procedure"
THAN = {"better": "better than", "worse": "worse than", "not distinguishable": "not distinguishable from"}
BESIDE = ("linear", "random", "scrambled", "heal-as-is", "heal-random", "heal-a", "scratch")
HEALED = ("heal", "heal-random", "heal-as-is", "heal-a", "scratch")
COMPONENTS = {
    "cnn": "convolutions alone",
    "cnn-ff": "convolutions and feed-forward",
    "ff-attn": "feed-forward and attention",
    "proposed": "all three (the paper's proposal)",
    "qk": "with Q and K",
    "cnn-all": "with Q, K and the residual stream",
    "residual": "the residual stream alone",
}


def points(values: Sequence[float]) -> str:
    """A difference of scores with its interval."""
    return "{:+.0f} [{:+.0f}, {:+.0f}]".format(*values)


def verdict(values: Sequence[float]) -> str:
    """What an interval of a difference says."""
    return "better" if values[1] > 0 else "worse" if values[2] < 0 else "not distinguishable"


def row_of(result: Result, name: str) -> dict[str, Any] | None:
    """A row by its name."""
    return next((row for row in result["rows"] if row["name"] == name), None)


def at(row: dict[str, Any], weight: float) -> dict[str, Any] | None:
    """A row at a weight."""
    return next((point for point in row["points"] if point["weight"] == weight), None)


def aligned_rows(result: Result) -> list[dict[str, Any]]:
    """All rows that are an alignment."""
    own = [row for row in result["rows"] if row["family"] not in ("control", "unmerged")]
    return [row for row in own if row["name"] not in ("linear", "heal-random") and not row["name"].endswith("as-is")]


def opening(results: dict[str, Result], together: dict[str, Any] | None) -> str:
    """The answer in one paragraph, from the mean over all pairs; then what was found on each pair."""
    shown = {name: result for name, result in results.items() if row_of(result, "proposed")}
    parts = [
        " ".join(filter(None, (_answer(together or _alone(*next(iter(shown.items())))), _healing(results)))),
        *(_pair(name, result) for name, result in shown.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _alone(name: str, result: Result) -> dict[str, Any]:
    """What `summary.together` says of one pair."""
    equal = [
        {"row": row["name"], "control": "linear", "weight": point["weight"], **point["minus_linear"]}
        for row in result["rows"]
        for point in row["points"]
        if "minus_linear" in point
    ]
    best = {row["name"]: row["best"] for row in result["rows"]}
    return {"pairs": [name], "best": best, "equal": [*equal, *result["contrasts"]]}


def _answer(together: dict[str, Any]) -> str:
    best = together["best"]["proposed"]
    gain = best["minus_linear"]
    controls = [verdict(row["minus_linear"]["average"]) for name, row in together["best"].items() if name in SEPARATE]
    names = together["pairs"]
    pairs = f"mean over {len(names)} pairs" if len(names) > 1 else f'pair "{names[0]}"'
    return (
        "**In short.** A music encoder's units were put in the order that best matches a speech encoder's, as arXiv "
        "2506.11403 proposes, and the two were merged; beside it, the same without reordering (linear interpolation). "
        f"Scores are thousandths of the parents' ({pairs}). Each at its own best weight, the aligned merge is "
        f"**{THAN[verdict(gain['average'])]} linear interpolation**: average {points(gain['average'])}, speech "
        f"{points(gain['speech'])}, music {points(gain['music'])}. Of {len(controls)} controls at theirs (random "
        f"reorderings, noise, the paper's released procedure) {controls.count('better')} are better than linear "
        f"interpolation and {controls.count('worse')} worse. {_half(together)} {_goal(best)}"
    )


def _healing(results: dict[str, Result], weight: float = 0.5) -> str:
    """What healing does at equal weights: after alignment, without it, after a random element, and without a merge."""
    for name, result in results.items():
        said = []
        for row in (row_of(result, other) for other in HEALED):
            point = row and (at(row, weight) or row["points"][0])
            if row and point and "transfer" in point:
                scores = f"speech {point['speech'][0]:.0f}, music {point['music'][0]:.0f}"
                said.append(f"{row['title']}: {scores}, {share(point['transfer'])} of the way")
        if said:
            steps = f"Merges at {weight:g} that learn from both parents on unlabelled audio for {STEPS} steps"
            return f'{steps} (pair "{name}"; one run each, whose own variance the intervals lack): {"; ".join(said)}.'
    return ""


def _half(together: dict[str, Any], weight: float = 0.5) -> str:
    """What alignment does in the middle, against linear and against random reorderings, and which groups do it."""
    found = {(one["row"], one["control"]): one["average"] for one in together["equal"] if one["weight"] == weight}
    compared = {"linear": "linear interpolation", "random": SEPARATE["random"], "scrambled": SEPARATE["scrambled"]}
    beside = [
        f"{THAN[verdict(values)]} {title} ({points(values)})"
        for other, title in compared.items()
        if (values := found.get(("proposed", other)))
    ]
    parts = [
        f"{COMPONENTS[name]} {points(values)}"
        for name in ("cnn", "ff-attn", "residual")
        if (values := found.get((name, "linear")))
    ]
    if not beside:
        return ""
    alone = f" Which part does it, from linear interpolation: {', '.join(parts)}." if parts else ""
    return f"At {weight:g} of each the average is {', '.join(beside)}.{alone}"


def _goal(best: dict[str, Any]) -> str:
    if "transferred" not in best:
        return "There is a pair whose music encoder is better on no music task: nothing to bring over."
    reached = "reached" if best["transferred"][0] >= 1000 * GAP_CLOSED else "not reached"
    return (
        f"The aim, {KEPT / 10:.0f} % of the speech score and half of the way to the music encoder, is {reached}: "
        f"{share(best['transferred'])} of the way."
    )


def _pair(name: str, result: Result) -> str:
    linear, proposed = row_of(result, "linear"), row_of(result, "proposed")
    assert linear is not None
    assert proposed is not None
    best = proposed["best"]
    gain = best["minus_linear"]
    head = (
        f"At its own best weight ({best['weight']:g}) the paper's alignment, done right, is "
        f"{THAN[verdict(gain['average'])]} linear interpolation at its own ({linear['best']['weight']:g}): average "
        f"{points(gain['average'])}, speech {points(gain['speech'])}, music {points(gain['music'])}."
    )
    parts = [
        head,
        _controls_at_best(result),
        _ceiling(result),
        _aim(result),
        _taught(result),
        _components(result),
        *_equal_weights(result),
    ]
    bullets = ["- " + part for part in parts if part]
    title = f'**Pair "{name}"** ({result["about"]["parameters"]:,} parameters each; points of 1000):'
    return title + "\n\n" + "\n".join(bullets)


def _controls_at_best(result: Result) -> str:
    parts = [
        f"{title} {points(row['best']['minus_linear']['average'])}"
        for name, title in SEPARATE.items()
        if (row := row_of(result, name))
    ]
    return f"Controls at their best weights, from linear's best average: {'; '.join(parts)}." if parts else ""


def _equal_weights(result: Result) -> list[str]:
    """At which weights the aligned merge differs from linear and from each control, for both measures."""
    equal = [one for one in _alone("", result)["equal"] if one["row"] == "proposed"]
    found = []
    for measure in ("average", "transfer"):
        differing: dict[str, list[str]] = {}
        for one in equal:
            if measure in one and (what := verdict(one[measure])) != "not distinguishable":
                title = SEPARATE.get(one["control"], "linear")
                differing.setdefault(f"{THAN[what]} {title}", []).append(f"{one['weight']:g}")
        said = "; ".join(f"{than} at {', '.join(weights)}" for than, weights in differing.items())
        found.append(f"The aligned merge at equal weights, {measure}: {said or 'nowhere distinguishable'}.")
    return found


def _taught(result: Result) -> str:
    """What rows that see data reach at their best weights, from linear's best and from A alone."""
    parts = []
    for row in result["rows"]:
        if row["family"] in ("kinds", "healed", "unmerged"):
            best = row["best"]
            gains = ", ".join(f"{s} {points(best['minus_linear'][s])}" for s in ("speech", "music"))
            way = f", {share(best['transferred'])} of the way" if "transferred" in best else ""
            parts.append(f"{row['title']} at {best['weight']:g}: {gains}{way}")
    return f"Every kind, learning and healing, from linear's best: {'; '.join(parts)}." if parts else ""


def _components(result: Result, weight: float = 0.5) -> str:
    parts = []
    for name, title in COMPONENTS.items():
        row = row_of(result, name)
        point = row and at(row, weight)
        if point and "minus_linear" in point:
            parts.append(f"{title} {points(point['minus_linear']['average'])}")
    return f"Which groups matter, at {weight:g} against linear: {'; '.join(parts)}." if parts else ""


def _ceiling(result: Result) -> str:
    best = max(result["rows"], key=lambda row: row["best"]["average"][0])
    found = best["best"]["minus_a"]["average"]
    return (
        f"The best average of all rows, *{best['title']}* at {best['best']['weight']:g}, is {THAN[verdict(found)]} A "
        f"left alone ({points(found)})."
    )


def _aim(result: Result) -> str:
    names = {task["name"]: task["title"] for task in result["tasks"]}
    rows = [row for row in result["rows"] if "transferred" in row["best"]]
    if not rows:
        return "B is better than A on no music task, so there is nothing to bring over."
    aligned = max((row for row in aligned_rows(result) if row in rows), key=lambda row: row["best"]["transferred"][0])
    others = [
        row for row in rows if row["name"] in ("linear", "random", "scrambled", "heal-as-is", "heal-a", "scratch")
    ]
    ranked = ", ".join(f"{row['title']} {share(row['best']['transferred'])}" for row in others)
    reached = "reached" if aligned["best"]["transferred"][0] >= 1000 * GAP_CLOSED else "not reached"
    better = ", ".join(names[name] for name in result["gaps"])
    return (
        f"B is better than A on {len(result['gaps'])} of the music tasks ({better}); at weights that keep "
        f"{KEPT / 10:.0f} % of the speech score, the best aligned merge (*{aligned['title']}*) brings over "
        f"{share(aligned['best']['transferred'])} of that gap, "
        f"{points(aligned['best']['transferred_minus_linear'])} thousandths from linear; beside it {ranked}. "
        f"The aim of half is {reached}."
    )


def share(values: Sequence[float]) -> str:
    """A share of 1000 with its interval, in percent."""
    return "{:.0%} [{:.0%}, {:.0%}]".format(*(value / 1000 for value in values))


def conclusion(results: dict[str, Result]) -> str:
    """What the matched correlations say about the limits of permutations."""
    parts = ["## What would do more\n"]
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
