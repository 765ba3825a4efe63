"""`compare`: loads two models, compares the part that both have, and writes the result as text, JSON and a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from permgraph.comparing.batches import Batches
from permgraph.jobs import files
from permgraph.jobs.align import prepare
from permgraph.jobs.data_read import DataRead
from permgraph.jobs.inputs import calibration
from permgraph.jobs.loading import load_pair
from permgraph.jobs.matching import Matching
from permgraph.jobs.session import Progress, Session
from permgraph.matching.trunks import differ
from permgraph.models.heads import common_part, heads_of_trunks
from permgraph.models.loaded import LoadedModel
from permgraph.pages.comparison import comparison_page
from permgraph.uses.comparison.compare import Comparison, compare_models, compare_trunks


def compare_two(
    session: Session, a: str, b: str, matching: Matching, *, html: Path | None = None, like: str | None = None
) -> Comparison:
    """Compare the models that `a` and `b` name; raises PermgraphError of every kind."""
    if html is not None:
        files.require_writable(html, force=session.force, inputs=matching.inputs((a, b)))
    with session.progress() as progress:
        pair, _ = load_pair(session, (a, b), matching, progress, like)
        (part_a, part_b), heads = common_part((pair.a, pair.b))
        if heads.whole and differ(part_a.model.state_dict(), part_b.model.state_dict()):
            found, read = _of_trunks(session, part_a, part_b, matching, progress)
            heads = heads_of_trunks((part_a, part_b), found.heads, "first")
        else:
            models, options = prepare(session, (part_a, part_b), matching, progress)
            found = compare_models(models, **options)
            read = DataRead.of(options["data"])
    matching.require_unchanged()
    without = "" if heads.whole else f"compared without heads: {heads.reason}"
    session.say("\n".join(filter(None, (str(found), str(read), without, str(pair.borders)))))
    if html is not None:
        files.write(html, comparison_page(found, (a, b)), force=session.force)
    for note in read.notes:
        session.warn(note)
    told = {"a": a, "b": b, "heads": heads.reason or None, "data": read.reading and asdict(read.reading)}
    session.emit(told | fields(found))
    return found


def _of_trunks(
    session: Session, a: LoadedModel, b: LoadedModel, matching: Matching, progress: Progress
) -> tuple[Comparison, DataRead]:
    """The comparison of models that code makes and whose heads differ in shape."""
    given = calibration(session, (a, b), matching)
    data = None if given is None else Batches(given)
    found = compare_trunks(
        a, b, data, args=a.args, kwargs=a.kwargs, method=matching.method,
        outputs=a.outputs, kinds=matching.kinds, seed=session.seed, progress=progress, options=matching.options,
    )  # fmt: skip
    return found, DataRead.of(data)


def fields(found: Comparison) -> dict[str, Any]:
    """A comparison as plain values, without the element."""

    def table(given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: asdict(one) for name, one in given.items()}

    return {
        "verdict": found.verdict,
        "p_value": found.p_value,
        "whole": asdict(found.whole),
        "moved": found.moved,
        "chance": found.chance,
        "tolerance": found.tolerance,
        "method": found.alignment.method,
        "certificate": asdict(found.alignment.certificate),
        "groups": table(found.similarity),
        "layers": table(found.layers),
        "tensors": table(found.tensors),
        "element": found.alignment.permutations.to_data() if found.verdict == "same" else None,
    }
