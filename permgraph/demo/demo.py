"""The demo: aligns, merges and scores two small trained encoders, one of speech and one of music, offline."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from permgraph.checkpoints.folders import require_free, whole_folder
from permgraph.demo.probes import Probe, load_probes, scores
from permgraph.errors import CheckpointError
from permgraph.jobs.align import align_loaded
from permgraph.jobs.aligned import Aligned
from permgraph.jobs.folder import write
from permgraph.jobs.matching import Matching
from permgraph.jobs.record import gain_table
from permgraph.jobs.session import Session, plain, table
from permgraph.jobs.whole import prove
from permgraph.matching.alignment import Alignment
from permgraph.matching.groups import select
from permgraph.merging.merge import merge
from permgraph.models.borders import FittedPair
from permgraph.models.loading import load
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.elements.report import moved_share

if TYPE_CHECKING:
    from torch import Tensor, nn

ASSETS = Path(__file__).resolve().parent / "assets"
WEIGHTS = (0.5, 0.9)
KEPT = 0.9
PAPER = ("conv", "feed_forward", "attention")
"""The groups of the setting that arXiv 2506.11403 proposes: no residual stream."""
ENOUGH_SECONDS = 150.0
"""The rows with the paper's groups are left out if they would make the demo take longer than this, in seconds."""
NOTABLE = 2.0
"""Standard errors; a smaller difference of accuracies is called noise."""


@dataclass(frozen=True)
class Row:
    """A model of the table: `kind` is "A", "B", "plain", "aligned" or "paper", `scores` accuracy by probe."""

    kind: str
    title: str
    weight: float | None
    scores: Mapping[str, float]


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
        for row in score_rows(aligned, probes, started):
            rows.append(row)
            progress("scoring models", len(rows), None)
    verdict = sentences(rows, probes)
    session.say(score_table(rows, probes))
    session.say("\n".join([_chance(probes), "", *verdict]))
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


def score_rows(aligned: Aligned, probes: Iterable[Probe], started: float) -> Iterable[Row]:
    """A, B, the plain average and the aligned merge at each weight; the paper's groups too if time is left."""
    a, b, full = aligned.a.model, aligned.b.model, aligned.alignment
    probes = tuple(probes)
    yield Row("A", "A, speech", None, merged_scores(a, a.state_dict(), probes))
    yield Row("B", "B, music", None, merged_scores(a, b.state_dict(), probes))
    for weight in WEIGHTS:
        for kind, title, alignment in (("plain", "plain average", None), ("aligned", "aligned", full)):
            state = merge(a, b, alignment=alignment, weight=weight)
            yield Row(kind, f"{title} at {weight:g} A", weight, merged_scores(a, state, probes))
    begun, partly = time.monotonic(), None
    for weight in reversed(WEIGHTS):
        each = time.monotonic() - begun if partly is not None else (begun - started) / (2 + 2 * len(WEIGHTS))
        if time.monotonic() - started + each > ENOUGH_SECONDS:
            return
        partly = partly or restricted(aligned, PAPER)
        begun = time.monotonic()
        state = merge(a, b, alignment=partly, weight=weight)
        yield Row("paper", f"aligned (no residual) at {weight:g} A", weight, merged_scores(a, state, probes))


def merged_scores(like: nn.Module, state: Mapping[str, Tensor], probes: Iterable[Probe]) -> dict[str, float]:
    """Accuracy by probe of a model with these weights, on one thread."""
    model: Any = deepcopy(like)
    model.load_state_dict(state)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the figures would depend on it
    try:
        return scores(model, probes)
    finally:
        torch.set_num_threads(threads)


def restricted(aligned: Aligned, roles: Iterable[str]) -> Alignment:
    """The alignment with only the groups of `roles`, proved anew; their gains do not depend on other groups."""
    full = aligned.alignment
    chosen = [group.name for group in select(full.spec, list(roles))]
    element = Permutations({**full.spec.identity(), **{name: full.permutations[name] for name in chosen}})
    certificate = prove(full.spec, aligned.b, element, full.certificate.seed)
    gains = {name: full.gains[name] for name in chosen if name in full.gains}
    return replace(full, permutations=element, gains=gains, certificate=certificate)


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
    """For every aligned merge, whether it beats the plain average at its weight, probe by probe."""
    rows, probes = list(rows), list(probes)
    plain_rows = {row.weight: row for row in rows if row.kind == "plain"}
    return [_sentence(row, plain_rows[row.weight], probes) for row in rows if row.kind in ("aligned", "paper")]


def _sentence(aligned: Row, average: Row, probes: Iterable[Probe]) -> str:
    found: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": []}
    for probe in probes:
        before, after = average.scores[probe.name], aligned.scores[probe.name]
        error = math.sqrt((before * (1 - before) + after * (1 - after)) / tested(probe))
        notable = abs(after - before) > NOTABLE * error
        word = "not distinguishable" if not notable else "better" if after > before else "worse"
        found[word].append(f"{probe.title} ({100 * (after - before):+.1f} points)")
    parts = [f"{word} on {', '.join(names)}" for word, names in found.items() if names]
    return f"{aligned.title}, against the {average.title}: {'; '.join(parts)}."


def results(aligned: Aligned, rows: Iterable[Row], probes: Iterable[Probe], verdict: list[str]) -> dict[str, Any]:
    """All figures for `permgraph.json`."""
    return {
        "probes": {
            p.name: {"title": p.title, "domain": p.domain, "metric": p.metric, "chance": p.chance, "tested": tested(p)}
            for p in probes
        },
        "models": [{"kind": r.kind, "title": r.title, "weight": r.weight, "scores": dict(r.scores)} for r in rows],
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


def draw(path: Path, alignment: Alignment, rows: Iterable[Row], probes: Iterable[Probe]) -> None:
    """A picture: matched correlation of every group before and after, and the table of accuracies as bars."""
    try:
        from matplotlib.figure import Figure
    except ImportError:  # an extra
        return
    figure = Figure(figsize=(14, 11), layout="constrained")
    above, below = figure.subplots(2, 1)
    _draw_gains(above, alignment)
    _draw_scores(below, list(rows), list(probes))
    figure.savefig(path, dpi=110)


def _draw_gains(axes: Any, alignment: Alignment) -> None:
    names = list(alignment.gains)
    places = range(len(names))
    axes.plot(places, [alignment.gains[n].identity for n in names], "o", color="#9aa5b1", label="B as it is")
    axes.plot(places, [alignment.gains[n].solution for n in names], "o", color="#d1495b", label="B aligned")
    axes.vlines(
        places, *zip(*((g.identity, g.solution) for g in alignment.gains.values()), strict=True), color="#e6b8bf"
    )
    axes.set_xticks(places, [_short(n) for n in names], rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_ylabel("mean correlation with A's unit")
    axes.set_title("Units of B and of A in the same place: how alike they respond to the same sound", loc="left")
    axes.axhline(0, color="black", linewidth=0.5)
    axes.legend(frameon=False)


def _short(name: str) -> str:
    return (
        name.removeprefix("feature_extractor.")
        .removeprefix("encoder.")
        .removesuffix(".channels")
        .removesuffix(".hidden")
    )


def _draw_scores(axes: Any, rows: list[Row], probes: list[Probe]) -> None:
    width = 0.85 / len(rows)
    colours = {"A": "#2e4057", "B": "#66a182", "plain": "#9aa5b1", "aligned": "#d1495b", "paper": "#edae49"}
    hatches = dict(zip(WEIGHTS, ("", "//"), strict=True))
    for k, row in enumerate(rows):
        heights = [100 * row.scores[probe.name] for probe in probes]
        where = [place + (k - (len(rows) - 1) / 2) * width for place in range(len(probes))]
        hatch = "" if row.weight is None else hatches[row.weight]
        bars = axes.bar(where, heights, 0.92 * width, color=colours[row.kind], hatch=hatch, edgecolor="white")
        bars.set_label(row.title)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    for place, probe in enumerate(probes):
        line = axes.hlines(100 * probe.chance, place - 0.45, place + 0.45, color="black", linestyle=":", linewidth=1)
        line.set_label("chance" if not place else None)
    axes.set_xticks(range(len(probes)), [f"{probe.domain}: {probe.title}" for probe in probes])
    axes.set_ylabel("accuracy of a small probe, %")
    axes.set_title("What the frozen encoders know", loc="left")
    axes.legend(frameon=False, fontsize=8, ncols=3)
