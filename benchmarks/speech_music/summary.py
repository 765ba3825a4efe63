"""From the counts of every cell to `benchmarks/results/speech_music.json`, by `scoring`.

    python -m benchmarks.speech_music.summary shipped [OTHER ...]

"together" is the mean over the pairs of encoders, if there are cells of several; then the pairs too are drawn
anew. Where there are cells of one pair alone, the mean of the last summary is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speech_music.fetch import DATA
from benchmarks.speech_music.rows import ROWS
from benchmarks.speech_music.run import experiment_folder
from benchmarks.speech_music.scoring import CONTRASTS, CPU, DRAWS, Experiment, intervals, mean_over

RESULT = Path(__file__).resolve().parents[1] / "results" / "speech_music.json"
DECIDING = {"linear", "proposed", "random"}
"""The rows without which a pair has no part in "together"."""


def together(pairs: Mapping[str, Experiment]) -> dict[str, Any]:
    """The mean over pairs: every row that all have, at its best weight, and the contrasts at equal weights."""
    count = len(pairs)
    drawn = np.random.default_rng(2).multinomial(count, np.full(count, 1 / count), DRAWS)
    shares = np.concatenate([np.ones((1, count)), drawn]) / count
    common = set.intersection(*(set(pair.cells) for pair in pairs.values()))
    rows = [row.name for row in ROWS if any(row.name == name for name, _ in common)]
    best = {row: intervals(mean_over([pair.best(row)[1] for pair in pairs.values()], shares)) for row in rows}
    contrasts = [*((row, "linear") for row in rows if row != "linear"), *CONTRASTS]
    equal = [
        {"row": row, "control": control, "weight": weight}
        | intervals(mean_over([pair.difference(row, control, weight) for pair in pairs.values()], shares))
        for row, control in contrasts
        for weight in sorted({weight for name, weight in common if name == row})
        if (control, weight) in common
    ]
    return {"pairs": list(pairs), "best": best, "equal": equal}


def kept(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """`now`, and what the last summary has that no cells at hand make anew.

    It is of the same experiment where both encoders and `linear` come out the same to the last digit; where not,
    nothing is kept. No difference from a row that has changed is kept.
    """
    (first, rows), (_, fresh) = ((one, {row["name"]: row for row in one["rows"]}) for one in (before, now))
    alike = all(first[side]["tasks"].items() <= now[side]["tasks"].items() for side in "AB")
    points = {name: row["points"] for name, row in rows.items()}
    changed = {name for name, row in fresh.items() if any(p not in points.get(name, []) for p in row["points"])}
    complete = all(len(fresh.get(name, {"points": []})["points"]) >= len(old) for name, old in points.items())
    if not alike or "linear" in changed or complete:
        return now
    made = {(c["row"], c["control"], c["weight"]) for c in now["contrasts"]}
    still = [c for c in before["contrasts"] if not {c["row"], c["control"]} & changed]
    contrasts = now["contrasts"] + [c for c in still if (c["row"], c["control"], c["weight"]) not in made]
    contrasts.sort(key=lambda c: (CONTRASTS.index((c["row"], c["control"])), c["weight"]))
    about = now["about"] | {key: before["about"][key] for key in (*CPU, "certified", "worst_certificate")}
    about["kept"] = [row["title"] for name, row in rows.items() if name not in fresh]
    rows |= {name: fresh[name] for name in changed}
    about["models"] = sum(point["seeds"] for row in rows.values() for point in row["points"])
    ordered = [rows[row.name] for row in ROWS if row.name in rows]
    return {**before, **now, "about": about, "rows": ordered, "contrasts": contrasts}


def training() -> dict[str, list[dict[str, Any]]]:
    """Run -> its log, of the runs that there are."""
    logs = {path.parent.name: path.read_text() for path in sorted((DATA / "runs").glob("*/log.jsonl"))}
    return {run: [json.loads(line) for line in text.splitlines()] for run, text in logs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="folders of data/experiments")
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {"pairs": {}}
    pairs = {}
    for name in dict.fromkeys([*parser.parse_args().names, *known["pairs"]]):
        folder = experiment_folder(name)
        if (folder / "A.json").exists():
            pairs[name] = Experiment.of(folder)
            now = pairs[name].result()
            known["pairs"][name] = kept(known["pairs"][name], now) if name in known["pairs"] else now
    comparable = {name: pair for name, pair in pairs.items() if {row for row, _ in pair.cells} >= DECIDING}
    if len(comparable) > 1 or not set((known.get("together") or {}).get("pairs", ())) <= set(known["pairs"]):
        known["together"] = together(comparable) if len(comparable) > 1 else None
    known["training"] = known.get("training", {}) | training()
    RESULT.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
