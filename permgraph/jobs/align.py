"""Aligns two loaded models: the part that both have, their heads, their borders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from permgraph.checkpoints.folders import require_free
from permgraph.checkpoints.writing import SecondHead
from permgraph.comparing.batches import Batches
from permgraph.comparing.models import Models
from permgraph.errors import OptionError
from permgraph.jobs.aligned import Aligned
from permgraph.jobs.data_read import DataRead
from permgraph.jobs.folder import require_room
from permgraph.jobs.inputs import calibration
from permgraph.jobs.loading import load_pair
from permgraph.jobs.matching import Matching
from permgraph.jobs.plan import planned
from permgraph.jobs.plan_data import planned_to_learn, planned_with_data
from permgraph.jobs.processes import joined
from permgraph.jobs.session import Progress, Session
from permgraph.jobs.whole import with_second_head
from permgraph.matching.align import align_models, align_trunks
from permgraph.matching.groups import select
from permgraph.matching.trunks import differ
from permgraph.matching.weights.effort import IN_TURN
from permgraph.models.borders import FittedPair
from permgraph.models.heads import common_part, heads_of_trunks
from permgraph.models.loaded import LoadedModel
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.elements.permutations import PermutationGroup


def load_and_align(session: Session, a: str, b: str, out: Path, matching: Matching, like: str | None = None) -> Aligned:
    """The models that `a` and `b` name, aligned; `out` is checked first. Raises PermgraphError of every kind."""
    require_free(out, force=session.force, inputs=matching.inputs((a, b)))
    with joined(session, shares=matching.shares) as session, session.progress() as progress:
        pair, _ = load_pair(session, (a, b), matching, progress, like)
        require_room(out, pair.a)
        return align_loaded(session, pair, matching, progress)


def align_loaded(
    session: Session, pair: FittedPair, matching: Matching, progress: Progress, *base: LoadedModel
) -> Aligned:
    """Match the groups of A's graph, with its adapter's outputs and ties; A's processor reads the data."""
    a, b = pair.a, pair.b
    (part_a, part_b, *part_base), heads = common_part((a, b, *base), matching.heads)
    if matching.heads in ("first", "both") and heads.whole and differ(a.model.state_dict(), b.model.state_dict()):
        return _trunks_aligned(session, pair, matching, progress, *base)
    models, options = prepare(session, (part_a, part_b), matching, progress)
    found = pair.aligned(align_models(models, **options), part_a, part_b)
    done = Aligned(
        (a, b), part_a, part_b, found, matching, heads, pair, next(iter(part_base), None),
        pair.of_base((a, *base), (part_a, *part_base)), data=options["data"], read=DataRead.of(options["data"]),
    )  # fmt: skip
    return with_second_head(session, done) if heads.second else done


def _trunks_aligned(
    session: Session, pair: FittedPair, matching: Matching, progress: Progress, *base: LoadedModel
) -> Aligned:
    """The same for models that code makes and whose heads differ in shape."""
    if base:
        raise OptionError("task vectors need models of the base's shapes: leave out --base where heads differ")
    a, b = pair.a, pair.b
    given = calibration(session, (a, b), matching)
    data = None if given is None else Batches(given)
    found = align_trunks(
        a, b, data, "both", args=a.args, kwargs=a.kwargs, method=matching.method, groups=matching.groups,
        outputs=a.outputs, kinds=matching.kinds, seed=session.seed, progress=progress,
        options=matching.options,
    )  # fmt: skip
    heads = heads_of_trunks((a, b), found.kept, str(matching.heads))
    found = pair.aligned(found, a, b)
    second, read = SecondHead(found.heads_b or {}), DataRead.of(data)
    return Aligned((a, b), a, b, found, matching, heads, pair, second=second, data=data, read=read)


def prepare(
    session: Session, models: Sequence[LoadedModel], matching: Matching, progress: Progress
) -> tuple[Models, dict[str, Any]]:
    """The models and the arguments of `align_models` and `place_models`; bad requests are refused before the work."""
    first = models[0]
    found = Models.of(models, first.tie)
    given = calibration(session, models, matching)
    data = None if given is None else Batches(given)
    example = (first.args, first.kwargs) if data is None else data.first
    progress("deriving", 0, 1)
    found.program(example)
    options = matching.options
    if matching.kinds == "permutation" or matching.groups is not None or matching.max_memory is not None:
        derivation = found.derivation(example, first.outputs)
        groups = select(derivation.spec, matching.groups)
        if matching.max_memory is not None:
            options |= _within(session, derivation, groups, found, matching)
    progress("deriving", 1, 1)
    whole = data is not None and matching.max_memory is None
    inputs = {} if whole else {"args": first.args, "kwargs": first.kwargs}
    return found, inputs | {
        "data": data, "outputs": first.outputs, "method": matching.method, "groups": matching.groups,
        "kinds": matching.kinds, "seed": session.seed, "progress": progress, "options": options,
    }  # fmt: skip


def _within(
    session: Session, derivation: Derivation, groups: Sequence[PermutationGroup], models: Models, matching: Matching
) -> dict[str, Any]:
    """The options of a matcher that stays within `max_memory`; prints the plan. Raises OptionError if it cannot."""
    most = matching.max_memory or 0
    by_data, alone = matching.data is not None and matching.method != "weights", matching.kinds == "permutation"
    plan = planned_with_data(derivation, groups, most) if by_data else None
    if plan is not None:
        session.say(str(plan))
    if plan is None or not alone:
        session.say(str(planned(derivation.spec, models.states, most, matching.kinds)))
    if matching.method == "learned":
        session.say(str(planned_to_learn(derivation, groups, most)))
    if plan is not None:
        return {"within": plan.within}
    return {"effort": IN_TURN} if alone else {}
