"""The demo: aligns, merges, heals and scores two small trained encoders, one of speech and one of music, offline."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from permgraph.checkpoints.folders import require_free, whole_folder
from permgraph.demo.merges import STEPS, Row, score_rows
from permgraph.demo.picture import draw
from permgraph.demo.probes import Probe, load_probes
from permgraph.errors import CheckpointError
from permgraph.jobs.align import align_loaded
from permgraph.jobs.aligned import Aligned
from permgraph.jobs.folder import write
from permgraph.jobs.matching import Matching
from permgraph.jobs.record import gain_table
from permgraph.jobs.session import Session, plain, table
from permgraph.matching.alignment import Alignment
from permgraph.merging.merge import merge
from permgraph.models.borders import FittedPair
from permgraph.models.loading import load
from permgraph.symmetry.elements.report import moved_share

ASSETS = Path(__file__).resolve().parent / "assets"
KEPT = 0.9
NOTABLE = 2.0
"""Standard errors; a smaller difference of accuracies is called noise."""
HOW = f"healed: {STEPS} steps of learning from both encoders on the clips, without labels"


def run(session: Session, out: Path | None) -> None:
    """Run the demo and print it; with `out`, keep the merged checkpoint, the figures as JSON, and a picture."""
    started = time.monotonic()
    if not ASSETS.is_dir():
        raise CheckpointError(
            f"{ASSETS}: the models and clips of the demo (14 MB) are not part of an installed package. Run it from a "
            "checkout of the source, by `make demo`."
        )
    if out is not None:
        require_free(out, force=session.force, inputs=[ASSETS])
    with session.progress() as progress:
        a, b = load(str(ASSETS / "speech")), load(str(ASSETS / "music"))
        aligned = align_loaded(session, FittedPair(a, b), Matching(ASSETS / "clips" / "calibration"), progress)
        _tell_alignment(session, aligned.alignment)
        probes = load_probes()
        rows = []
        for row in score_rows(aligned, probes, ASSETS / "clips" / "calibration", progress):
            rows.append(row)
            progress("scoring models", len(rows), None)
    verdict = sentences(rows, probes)
    session.say(score_table(rows, probes))
    session.say("\n".join([_chance(probes), HOW, "", *verdict]))
    report = results(aligned, rows, probes, verdict) | {"seconds": round(time.monotonic() - started, 1)}
    if out is not None:
        keep(session, out, aligned, rows, probes, report)
        names = ", ".join(sorted(path.name for path in out.iterdir()))
        session.say(f"\nwritten to {out}: {names}; merged is the aligned merge at {KEPT:g} A")
    else:
        session.say("\nnothing was written; --out DIR keeps the merged checkpoint, the figures and a picture")
    session.emit(report | {"out": None if out is None else str(out)})


def _tell_alignment(session: Session, alignment: Alignment) -> None:
    spec = alignment.spec
    session.say(f"What may be permuted in both encoders (A speech, B music) without changing them:\n\n{spec}\n")
    attention = next(group for group in spec.groups if group.role == "attention.vo")
    session.say(f"Why, for one of them:\n\n{spec.explain(attention.axes[0], attention.axes[-1])}\n")
    session.say(f"certificate of B in A's order: {alignment.certificate}\n")
    session.say(gain_table(alignment))
    share = moved_share(alignment.permutations, list(alignment.gains))
    session.say(f"{len(alignment.gains)} groups matched by {alignment.method}; {share:.1%} of their units moved\n")


def score_table(rows: Iterable[Row], probes: Iterable[Probe]) -> Any:
    """The accuracies as a rich table."""
    probes = tuple(probes)
    body = [(row.title, *(f"{row.scores[probe.name]:.1%}" for probe in probes)) for row in rows]
    heads = [f"{probe.domain}: {probe.title}" for probe in probes]
    return table(("model", *heads), body, title="Accuracy of small probes on the frozen encoders")


def _chance(probes: Iterable[Probe]) -> str:
    parts = [f"{p.chance:.1%} on {p.title} ({tested(p)} test examples)" for p in probes]
    return f"chance, the most frequent training label: {', '.join(parts)}"


def tested(probe: Probe) -> int:
    """How many examples a probe's accuracy is counted on."""
    return sum(example.test for example in probe.examples)


def sentences(rows: Iterable[Row], probes: Iterable[Probe]) -> list[str]:
    """Whether each aligned merge beats the plain average treated alike, probe by probe; a healed one also A and B."""
    rows, probes = list(rows), list(probes)
    plain = {(row.weight, row.steps): row for row in rows if row.kind == "plain"}
    aligned = [row for row in rows if row.kind == "aligned"]
    pairs = [(row, plain[row.weight, row.steps]) for row in aligned]
    pairs += [(row, parent) for row in aligned if row.steps for parent in rows if parent.weight is None]
    return [_sentence(*pair, probes) for pair in pairs]


def _sentence(row: Row, other: Row, probes: Iterable[Probe]) -> str:
    found: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": []}
    for probe in probes:
        before, after = other.scores[probe.name], row.scores[probe.name]
        error = math.sqrt((before * (1 - before) + after * (1 - after)) / tested(probe))
        notable = abs(after - before) > NOTABLE * error
        word = "not distinguishable" if not notable else "better" if after > before else "worse"
        found[word].append(f"{probe.title} ({100 * (after - before):+.1f} points)")
    parts = [f"{word} on {', '.join(names)}" for word, names in found.items() if names]
    article = "the " if other.kind == "plain" else ""
    return f"{row.title}, against {article}{other.title}: {'; '.join(parts)}."


def results(aligned: Aligned, rows: Iterable[Row], probes: Iterable[Probe], verdict: list[str]) -> dict[str, Any]:
    """All figures for `permgraph.json`."""
    return {
        "probes": {
            p.name: {"title": p.title, "domain": p.domain, "metric": p.metric, "chance": p.chance, "tested": tested(p)}
            for p in probes
        },
        "models": [asdict(row) for row in rows],
        "verdict": verdict,
        "gains": {n: [g.identity, g.solution] for n, g in aligned.alignment.gains.items()},
        "certificate": str(aligned.alignment.certificate),
    }


def keep(
    session: Session, out: Path, aligned: Aligned, rows: list[Row], probes: Iterable[Probe], report: dict[str, Any]
) -> None:
    """Write the folder `out`: the merged checkpoint, the figures, the picture; all of it or nothing."""
    state = merge(aligned.a.model, aligned.b.model, alignment=aligned.alignment, weight=KEPT)
    with whole_folder(out, force=session.force) as folder:
        what = f"linear merge, {KEPT:g} · A + {1 - KEPT:g} · B, B's units moved to match A's."
        how = {"method": "linear", "weight": KEPT}
        write(
            session,
            folder / "merged",
            state,
            aligned,
            like=aligned.a,
            what=what,
            storage=aligned.a.stored.storage(),
            merge=how,
        )
        (folder / "permgraph.json").write_text(json.dumps(plain(report), indent=2) + "\n", encoding="utf-8")
        draw(folder / "demo.png", aligned.alignment, rows, probes)
