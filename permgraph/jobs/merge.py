"""`merge A B`: moves B's units to match A's, and merges the two."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from permgraph.checkpoints.folders import require_free
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.comparing.batches import Batches
from permgraph.errors import CalibrationError, OptionError, PermgraphWarning
from permgraph.jobs.align import align_loaded
from permgraph.jobs.folder import require_room, storage_of, tell, write
from permgraph.jobs.inputs import calibration
from permgraph.jobs.loading import load_pair
from permgraph.jobs.loss import Curves, curves_of, judge_of, sentence
from permgraph.jobs.processes import joined
from permgraph.jobs.recipe_inputs import require_read
from permgraph.jobs.record import base_and_options
from permgraph.jobs.session import Session
from permgraph.learning.fidelity import Fidelity, fidelity_of
from permgraph.merging.merge import Merges
from permgraph.merging.methods.batch_norm import NOTHING, running_statistics
from permgraph.merging.shares import DEFAULT, EQUAL, shares_of

if TYPE_CHECKING:
    from torch import Tensor

    from permgraph.jobs.aligned import Aligned
    from permgraph.jobs.matching import Matching
    from permgraph.jobs.recipe import Request
    from permgraph.merging.shares import Weight

JUDGED = 8
"""Batches of the data on which a merge is compared with its parents."""
UNJUDGED = "what the merge keeps of A and B was not measured: {}"
HOW = "give --data DIR, or --data synthetic"


def merge_two(
    session: Session, asked: Request, out: Path, matching: Matching, weight: Weight, method: str, *, needs_data: bool
) -> None:
    """Write weight · A + (1 - weight) · B, moved, by `method`; print what was gained, and the loss between them."""
    require_free(out, force=session.force, inputs=asked.inputs)
    aligned, state, curves, judged = _merged(session, asked, matching, weight, method, needs_data)
    shares = f"{method} merge, {_shares(weight)}"
    report = write(
        session,
        out,
        state,
        aligned,
        like=aligned.models[0],
        what=f"{shares[0].upper()}{shares[1:].format('A', 'B')}, with B's units moved to match A's.",
        storage=storage_of(aligned.models[0], asked.dtype, asked.max_shard_size),
        merge={"method": method, "weight": weight}
        | base_and_options(asked, aligned.base)
        | ({"fidelity": asdict(judged)} if isinstance(judged, Fidelity) else {}),
        curves=curves,
        request=asked,
    )
    said = str(judged) if judged or curves or matching.max_memory is not None else UNJUDGED.format(HOW)
    what = (shares.format(*asked.models), said, sentence(curves) if curves else "")
    tell(session, out, aligned, report, "\n".join(filter(None, what)))


def _merged(
    session: Session, asked: Request, matching: Matching, weight: Weight, method: str, needs_data: bool
) -> tuple[Aligned, Mapping[str, Tensor], Curves, Fidelity | str]:
    with joined(session, shares=matching.shares) as here, here.progress() as progress:
        pair, base = load_pair(here, asked.references, matching, progress, asked.model)
        a, b = pair.a, pair.b
        require_read(asked, [model.hashes for model in (a, b, *base)])
        require_room(Path(str(asked.out)), a, asked.dtype)
        judge = asked.loss and judge_of(asked.loss, (a, b), lambda: calibration(session, (a, b), matching) or ())
        aligned = align_loaded(here, pair, matching, progress, *base)
    quiet = warnings.catch_warnings(action="ignore", category=PermgraphWarning)  # said below
    with session.progress() as progress, quiet:
        data = _batches(session, aligned, matching) if needs_data else None
        merges = Merges(
            aligned.a,
            aligned.b,
            aligned.alignment,
            data,
            base=None if aligned.base is None else aligned.base.weights,
            progress=progress,
            owners=aligned.owners,
        )
        part = merges.at(weight, method, **(asked.options or {}))
        if "batch_norm" in method.split("+") and not running_statistics(merges.calibration.program):
            session.warn(f"--merge {method}: {NOTHING}")
        curves = curves_of(aligned, judge, method, data, asked.options or {}, progress) if judge else {}
        judged = _judged(session, aligned, matching, part, weight)
    return aligned, aligned.heads.into(a.weights, part), curves, judged


def _batches(session: Session, aligned: Aligned, matching: Matching) -> Batches | None:
    """What B was aligned by, which may have taken long to make; made anew where it can be read only once."""
    if aligned.data is not None and aligned.data.again:
        return aligned.data
    made = calibration(session, (aligned.a, aligned.b), matching)
    return None if made is None else Batches(made)


def _judged(
    session: Session, aligned: Aligned, matching: Matching, part: Mapping[str, Tensor], weight: Weight
) -> Fidelity | str:
    """How much of its parents a merge keeps, on the first batches, or why that cannot be measured.

    Nothing without data, or within a limit on memory.
    """
    batches = None if isinstance(part, LazyState) else _batches(session, aligned, matching)
    if batches is None:
        return ""
    if aligned.alignment.kept:
        return UNJUDGED.format("their heads differ, and it has A's")
    first = batches.beginning(JUDGED)
    here = Merges(aligned.a, aligned.b, aligned.alignment, first, owners=aligned.owners).calibration
    try:
        return fidelity_of(here, part, shares_of(weight, aligned.alignment, None).default)
    except (CalibrationError, OptionError) as error:  # of the measurement alone, which must not cost the merge
        return UNJUDGED.format(error)


def _shares(weight: Weight) -> str:
    """What A and B contribute, as a template with placeholders for their names."""
    if isinstance(weight, float):
        return f"{weight:g} · {{}} + {1 - weight:g} · {{}}"
    if isinstance(weight, str):
        return f"{{}} with {{}}, A's share by {weight}"
    shares = ", ".join(f"{name} {share:g}" for name, share in ({DEFAULT: EQUAL} | dict(weight)).items())
    return f"{{}} with {{}}, A's shares: {shares}"
