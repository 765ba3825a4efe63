"""What `align`, `merge` and the demo share: load two models, align them, write a folder and say what came of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from permgraph.checkpoints.folders import require_free, require_space
from permgraph.checkpoints.lazy_state import small_part
from permgraph.checkpoints.model_card import shared_licence
from permgraph.checkpoints.sharding import Storage, bytes_of, dtype_of
from permgraph.checkpoints.writing import SecondHead, write_merged
from permgraph.comparing.batches import Batches
from permgraph.comparing.models import Models
from permgraph.errors import CalibrationError, OptionError, VerificationError
from permgraph.jobs.account import Account, account
from permgraph.jobs.loading import load_pair
from permgraph.jobs.plan import planned
from permgraph.jobs.processes import joined
from permgraph.jobs.recipe import FILE, Request, recipe_text
from permgraph.jobs.recipe_inputs import local_hashes
from permgraph.jobs.record import REPORT, facts, gain_table, record, summary
from permgraph.jobs.session import Progress, Session
from permgraph.matching.align import Alignment, align_models, align_trunks
from permgraph.matching.borders import Borders
from permgraph.matching.groups import select
from permgraph.matching.kinds.ascent import ROUNDS_IN_TURN
from permgraph.matching.trunks import differ
from permgraph.matching.weights.effort import IN_TURN
from permgraph.models.borders import FittedPair
from permgraph.models.devices import MovedBatches, device_of
from permgraph.models.heads import Heads, common_part, head_names, heads_of_trunks, on_the_whole
from permgraph.models.loaded import LoadedModel
from permgraph.pages.report import report_page
from permgraph.symmetry.derivation import derive
from permgraph.symmetry.elements_report import moved_share
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.spec import PermutationSpec
from permgraph.symmetry.verification import Certificate, certify
from permgraph.tracing.capture import capture
from permgraph.tracing.run import bind
from permgraph.uses.enlarging import Enlarged

if TYPE_CHECKING:
    from torch import Tensor

    from permgraph.jobs.loss import Curves


@dataclass(frozen=True)
class Matching:
    """How B is to be matched with A: data (None: by weights alone), method or mix, groups by role or name, kinds.

    `max_memory`: bytes of memory to stay within; weights are then read from their files as they are needed. `enlarge`:
    B may have fewer hidden units, heads and layers than A.
    """

    data: Path | None = None
    method: str | None = None
    groups: Sequence[str] | None = None
    limit: int | None = None
    mix: float | None = None
    kinds: str = "permutation"
    heads: str | None = None
    max_memory: int | None = None
    enlarge: bool = False
    _seen: dict[str, tuple[int, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seen", _files(self.data))

    def require_unchanged(self) -> None:
        """Raise CalibrationError if a file of the data came, went or was written to since this was made."""
        now, seen = _files(self.data), self._seen
        changed = sorted(path for path in now.keys() | seen.keys() if now.get(path) != seen.get(path))
        if changed:
            raise CalibrationError(f"{changed[0]}: was changed while the data was read. Run the command again.")

    @property
    def shares(self) -> bool:
        """Whether several processes can share the work: moments of activations add up."""
        return self.data is not None and self.method in (None, "correlation", "mix")

    def inputs(self, models: Iterable[str]) -> tuple[str, ...]:
        """What an output must not touch: the models that are folders or files, and the data."""
        return (*models, *([] if self.data is None else [str(self.data)]))


def _files(data: Path | None) -> dict[str, tuple[int, int]]:
    found = [] if data is None else [(str(path), path.stat()) for path in data.rglob("*") if path.is_file()]
    return {path: (state.st_size, state.st_mtime_ns) for path, state in found}


def recipe_of(session: Session, request: Request, out: Path, report: Mapping[str, Any]) -> dict[str, str]:
    """The recipe of a merge as a file to lie in `out`, for the record of that merge."""
    inputs, base = report["inputs"], (report["merge"] or {}).get("base")
    found = local_hashes(request.models, [model["sha256"] for model in inputs["models"]])
    for name, one in ((request.data, inputs["data"]), (request.base, base)):
        if one is not None:
            found |= local_hashes([str(name)], [one["sha256"]])
    done = replace(request, seed=session.seed, device=session.device, threads=torch.get_num_threads(), sha256=found)
    return {FILE: recipe_text(done, out)}


@dataclass(frozen=True)
class Aligned:
    """Two models, the part of them that is matched, and the alignment of the second's part with the first's.

    `base` is that part of the model that they were fine-tuned from, where one was given; `second` the head of the
    second model, moved, where it is written too; `pair` says at which borders the models were fitted to each other,
    `read` how many batches and samples of the data were.
    """

    models: tuple[LoadedModel, LoadedModel]
    a: LoadedModel
    b: LoadedModel
    alignment: Alignment
    matching: Matching
    heads: Heads = field(default_factory=Heads)
    pair: FittedPair | None = None
    base: LoadedModel | None = None
    second: SecondHead | None = None
    read: tuple[int, int] | None = None

    def account(self, *, merged: bool) -> Account:
        """What became of every tensor of both models, merged or B moved to A alone."""
        found = self.alignment
        told = account(self.models, (self.a, self.b), self.heads, found.spec, list(found.gains), merged=merged)
        return told.with_reasons(self.borders.reasons) if merged else told

    @property
    def borders(self) -> Borders:
        """The axes at which the two models differ without being heads."""
        return Borders() if self.pair is None else self.pair.borders

    @property
    def as_written(self) -> LoadedModel:
        """The second model as `align` writes it: with its own borders, or with the sizes that it was enlarged to."""
        moved = self.models[1]
        return moved if self.enlarged is not None else moved.given or moved

    @property
    def enlarged(self) -> Enlarged | None:
        """How B was enlarged to A's sizes, where it was."""
        return None if self.pair is None else self.pair.enlarged

    def borders_text(self, *, merged: bool) -> str:
        """What became of those axes, or of fewer units and layers, a line each."""
        if self.enlarged is not None:
            return f"B was enlarged to A's sizes: {self.enlarged}"
        if merged or not self.borders:
            return str(self.borders)
        return f"{', '.join(dict.fromkeys(one.what for one in self.borders.borders))}: B keeps its own"


def storage_of(model: LoadedModel, dtype: str | None, max_shard_size: str | None) -> Storage:
    """How what is written is stored: as the files of `model` are, unless another dtype or size of files is given.

    Raises OptionError for a dtype or size that is none.
    """
    return model.stored.storage(
        None if dtype is None else dtype_of(dtype), None if max_shard_size is None else bytes_of(max_shard_size)
    )


def require_room(out: Path, model: LoadedModel, dtype: str | None = None) -> None:
    """There is space for weights like those of `model` where `out` is to appear. Raises CheckpointError."""
    storage, state = storage_of(model, dtype, None), model.model.state_dict()
    require_space(out, sum(storage.size(name, tensor) for name, tensor in state.items()))


def say_dtypes(session: Session, models: Sequence[LoadedModel], storage: Storage) -> None:
    """A warning where a model is stored as another dtype than what is written."""
    written = storage.default
    for model in models:
        if model.stored.dtype != written:
            names = [str(dtype).removeprefix("torch.") for dtype in (model.stored.dtype, written)]
            session.warn(f"{model.reference} is stored as {names[0]}, and written as {names[1]}; --dtype changes that")


def load_and_align(session: Session, a: str, b: str, out: Path, matching: Matching, like: str | None = None) -> Aligned:
    """The models that `a` and `b` name, aligned; `out` is looked at first. Raises PermgraphError of every kind."""
    require_free(out, force=session.force, inputs=matching.inputs((a, b)))
    with joined(session, shares=matching.shares) as session, session.progress() as progress:
        whole = matching.max_memory is None
        pair, _ = load_pair(session, (a, b), progress, like, on_demand=not whole, enlarge=matching.enlarge)
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
    read = None if options["data"] is None else options["data"].read
    done = Aligned((a, b), part_a, part_b, found, matching, heads, pair, next(iter(part_base), None), read=read)
    return with_second_head(session, done) if heads.second else done


def _trunks_aligned(
    session: Session, pair: FittedPair, matching: Matching, progress: Progress, *base: LoadedModel
) -> Aligned:
    """The same for models that code makes and that differ in the shapes of their heads."""
    if base:
        raise OptionError("task vectors need models of the base's shapes: leave out --base where heads differ")
    a, b = pair.a, pair.b
    data = calibration(session, a, matching)
    found = align_trunks(
        a, b, data, "both", args=a.args, kwargs=a.kwargs, method=matching.method, groups=matching.groups,
        outputs=a.outputs, kinds=matching.kinds, seed=session.seed, progress=progress,
        options={} if matching.mix is None else {"mix": matching.mix},
    )  # fmt: skip
    heads = heads_of_trunks((a, b), found.kept, str(matching.heads))
    found = pair.aligned(found, a, b)
    return Aligned((a, b), a, b, found, matching, heads, pair, second=SecondHead(found.heads_b or {}))


def with_second_head(session: Session, aligned: Aligned) -> Aligned:
    """The same with B's head, moved as its base model is, to be written beside A's. Raises what `carried` does."""
    whole, state = carried(session, aligned)
    b = aligned.models[1]
    tensors = {name: state[name] for name in head_names(b, aligned.b)}
    proved = replace(aligned.alignment, certificate=whole.alignment.certificate)
    return replace(aligned, alignment=proved, second=SecondHead(tensors, b.config, b.architecture))


def prepare(
    session: Session, models: Sequence[LoadedModel], matching: Matching, progress: Progress
) -> tuple[Models, dict[str, Any]]:
    """The models, and what `align_models` and `place_models` take; what can be refused before the work starts, is."""
    first = models[0]
    found = Models.of(models, first.tie)
    given = calibration(session, first, matching)
    data = None if given is None else Batches(given)
    example = (first.args, first.kwargs) if data is None else data.first
    progress("deriving", 0, 1)
    spec = found.derivation(example, first.outputs).spec
    select(spec, matching.groups)
    progress("deriving", 1, 1)
    if matching.max_memory is not None:
        session.say(str(planned(spec, found.states, matching.max_memory, matching.kinds)))
    inputs = {"args": first.args, "kwargs": first.kwargs} if data is None else {}
    options: dict[str, Any] = {} if matching.mix is None else {"mix": matching.mix}
    if matching.max_memory is not None:
        options |= {"effort": IN_TURN} if matching.kinds == "permutation" else {"rounds": ROUNDS_IN_TURN}
    return found, inputs | {
        "data": data, "outputs": first.outputs, "method": matching.method, "groups": matching.groups,
        "kinds": matching.kinds, "seed": session.seed, "progress": progress, "options": options,
    }  # fmt: skip


def calibration(session: Session, model: LoadedModel, matching: Matching) -> Iterable[Any] | None:
    """The batches that `model`'s processor makes of the data, None where there is none."""
    if matching.data is None:
        return None
    batches = model.calibration(matching.data, seed=session.seed, limit=matching.limit)
    device = device_of(session.device)
    return batches if device.type == "cpu" else MovedBatches(batches, device)


def prove(spec: PermutationSpec, model: LoadedModel, element: Permutations, seed: int) -> Certificate:
    """The certificate that this element leaves the function of `model` unchanged, or that it does not."""
    program = capture(model.model, model.args, model.kwargs)
    inputs = bind(program, model.args, model.kwargs)
    return certify(program, spec, small_part(model.weights), inputs, element=element, trials=1, seed=seed)


def carried(session: Session, aligned: Aligned) -> tuple[Aligned, Mapping[str, Tensor]]:
    """B as a whole, moved as its base model was: for heads of its own, where only base models were matched.

    Raises VerificationError where that would change B's function.
    """
    b, found = aligned.models[1], aligned.alignment
    if found.spec.kinds != "permutation":
        raise OptionError("a head of its own moves along in kinds permutation alone: leave out --kinds, or use merge")
    spec = derive(b.model, b.args, b.kwargs, outputs=b.outputs, tie=b.tie)
    element = on_the_whole(b, spec, found.spec, found.permutations)
    certificate = prove(spec, b, element, session.seed)
    if not certificate.ok:
        raise VerificationError(f"the head of B cannot move along: {certificate}; align the base models instead")
    done = replace(found, certificate=certificate)
    state = spec.applied(element, b.weights)
    if aligned.borders and b.given is not None:
        state = dict(state) | aligned.borders.own(b.given.weights, [(spec, element)])
    return replace(aligned, alignment=done, heads=replace(aligned.heads, carried=True)), state


def write(
    session: Session,
    out: Path,
    state: Mapping[str, Tensor],
    aligned: Aligned,
    *,
    like: LoadedModel,
    what: str,
    storage: Storage,
    merge: Mapping[str, Any] | None = None,
    curves: Curves | None = None,
    request: Request | None = None,
) -> dict[str, Any]:
    """Write `state`, config and processor of `like`, the card, the report and the record; returns the record."""
    models = aligned.models
    aligned.matching.require_unchanged()
    report = record(session, models, aligned.alignment, data=aligned.matching.data, merge=merge)
    report |= aligned.account(merged=merge is not None).fields
    say_dtypes(session, models, storage)
    report["heads"] = str(aligned.heads) or None
    if report["inputs"]["data"] is not None and aligned.read is not None:
        report["inputs"]["data"] |= dict(zip(("batches", "samples"), aligned.read, strict=True))
    report["related"] = None if aligned.alignment.related is None else asdict(aligned.alignment.related)
    report["enlarged"] = aligned.enlarged and aligned.enlarged.fields
    report["borders"] = aligned.borders_text(merged=merge is not None).splitlines()
    report["loss"] = None if request is None else request.loss
    report["curves"] = {name: asdict(one) for name, one in curves.items()} if curves else None
    page = report_page(aligned.alignment, out.resolve().name, what, facts=facts(report), barriers=curves)
    write_merged(
        out,
        state,
        report=report,
        config=_config(like.config, aligned.alignment),
        architecture=like.architecture,
        source=like.folder,
        base_models=[model.reference for model in models],
        summary=summary(
            aligned.alignment, " ".join(filter(None, (what, *_sentences(aligned, merged=merge is not None))))
        ),
        licence=shared_licence(model.folder for model in models),
        pages={REPORT: page} | ({} if request is None else recipe_of(session, request, out, report)),
        force=session.force,
        storage=storage,
        second=aligned.second if aligned.heads.second and merge is not None else None,
        finish=aligned.pair.finish if aligned.pair is not None and merge is not None else None,
        inputs=request.inputs if request is not None else aligned.matching.inputs(model.reference for model in models),
    )
    return report


def _config(config: Any, alignment: Alignment) -> Any:
    """The config of what is written: its embeddings are not tied any more where they came apart."""
    if not alignment.untied or not hasattr(config, "tie_word_embeddings"):
        return config
    apart = copy.deepcopy(config)
    apart.tie_word_embeddings = False
    return apart


def _sentences(aligned: Aligned, *, merged: bool) -> list[str]:
    lines = [str(aligned.heads), *aligned.borders_text(merged=merged).splitlines()]
    return [f"{line[0].upper()}{line[1:]}." for line in lines if line]


def tell(session: Session, out: Path, aligned: Aligned, report: Mapping[str, Any], what: str) -> None:
    """Certificate, gains and place of what was written; the record without its permutations as JSON."""
    alignment = aligned.alignment
    names = list(alignment.gains)
    share = moved_share(alignment.permutations, names)
    session.say(f"certificate: {alignment.certificate}")
    session.say(gain_table(alignment))
    if aligned.read is not None:
        session.say("calibration data: {} batches, {} samples (texts, windows or images)".format(*aligned.read))
    session.say(
        f"{len(names)} of {len(alignment.spec.groups)} groups matched by {alignment.method}, "
        f"{share:.1%} of their units moved"
    )
    if alignment.untied:
        session.say(f"not tied any more, so that norms could be folded: {', '.join(alignment.untied)}")
    merged = report["merge"] is not None
    found, borders = aligned.account(merged=merged), aligned.borders_text(merged=merged)
    session.say("\n".join(filter(None, (what, str(aligned.heads), borders, str(found), f"written to {out}"))))
    if found.warning:
        session.warn(found.warning)
    if not names:
        session.warn("no group of these models moves, so they are taken as they stand: `permgraph inspect` says why")
    if alignment.related is not None and names:
        session.warn(str(alignment.related))
    session.emit({"out": str(out)} | {key: value for key, value in report.items() if key != "permutations"})
