"""From the counts of every cell to `benchmarks/results/speech_music.json`, by `scoring`.

    python -m benchmarks.speech_music.summary shipped [OTHER ...]

"together" is the mean over the pairs of encoders. Pairs of one domain go to `speech_music_one_domain.json`. Of a pair
that has no cells here, the last summary is kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.speech_music.one_domain import OneDomain, opened
from benchmarks.speech_music.rows import ROWS
from benchmarks.speech_music.run import experiment_folder
from benchmarks.speech_music.scoring import CONTRASTS, CPU
from benchmarks.speech_music.together import together
from benchmarks.speech_music.trained import runs, training

RESULT = Path(__file__).resolve().parents[1] / "results" / "speech_music.json"
ONE_DOMAIN = RESULT.with_name("speech_music_one_domain.json")


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="folders of data/experiments")
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {"pairs": {}}
    alike = json.loads(ONE_DOMAIN.read_text()) if ONE_DOMAIN.exists() else {}
    for name in dict.fromkeys([*parser.parse_args().names, *known["pairs"], *alike]):
        folder = experiment_folder(name)
        if (folder / "A.json").exists():
            pair = opened(folder)
            before, now = known["pairs"].get(name), pair.result()
            if isinstance(pair, OneDomain):
                alike[name] = now
            else:
                known["pairs"][name] = kept(before, now) if before else now
    encoders = {name: runs(result["about"]) for name, result in known["pairs"].items()}
    known["together"] = together(known["pairs"], encoders) if len(encoders) > 1 else None
    known["training"] = known.get("training", {}) | training()
    RESULT.write_text(json.dumps(known, indent=1) + "\n")
    if alike:
        ONE_DOMAIN.write_text(json.dumps(alike, indent=1) + "\n")


if __name__ == "__main__":
    main()
