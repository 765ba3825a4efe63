"""The folder that `align`, `merge` and the demo write, and what they print about it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from permgraph.checkpoints.folders import require_space
from permgraph.checkpoints.model_card import home_of, shared_licence
from permgraph.checkpoints.sharding import Storage, bytes_of, dtype_of
from permgraph.checkpoints.writing import write_merged
from permgraph.jobs.aligned import Aligned
from permgraph.jobs.recipe import FILE, Request, recipe_text
from permgraph.jobs.recipe_inputs import local_hashes
from permgraph.jobs.record import REPORT, facts, gain_table, record, summary
from permgraph.jobs.session import Session
from permgraph.matching.gains_report import by
from permgraph.models.loaded import LoadedModel
from permgraph.pages.report import report_page
from permgraph.symmetry.elements.report import moved_share
from permgraph.tracing.results import left_out

if TYPE_CHECKING:
    from torch import Tensor

    from permgraph.jobs.loss import Curves


def recipe_of(session: Session, request: Request, out: Path, report: Mapping[str, Any]) -> dict[str, str]:
    """The recipe of a merge as a file of `out`, for the record of that merge."""
    inputs, base = report["inputs"], (report["merge"] or {}).get("base")
    found = local_hashes(request.models, [model["sha256"] for model in inputs["models"]])
    for name, one in ((request.data, inputs["data"]), (request.base, base)):
        if one is not None:
            found |= local_hashes([str(name)], [one["sha256"]])
    done = replace(request, seed=session.seed, device=session.device, threads=torch.get_num_threads(), sha256=found)
    return {FILE: recipe_text(done, out)}


def storage_of(model: LoadedModel, dtype: str | None, max_shard_size: str | None) -> Storage:
    """How the output is stored: like the files of `model`, unless another dtype or file size is given.

    Raises OptionError for text that is not a dtype or a size.
    """
    return model.stored.storage(
        None if dtype is None else dtype_of(dtype), None if max_shard_size is None else bytes_of(max_shard_size)
    )


def require_room(out: Path, model: LoadedModel, dtype: str | None = None) -> None:
    """Raise CheckpointError if there is no space for weights like those of `model` where `out` will be."""
    storage, state = storage_of(model, dtype, None), model.model.state_dict()
    require_space(out, sum(storage.size(name, tensor) for name, tensor in state.items()))


def say_dtypes(session: Session, models: Sequence[LoadedModel], storage: Storage) -> None:
    """Warn if a model is stored in another dtype than the output."""
    written = storage.default
    for model in models:
        if model.stored.dtype != written:
            names = [str(dtype).removeprefix("torch.") for dtype in (model.stored.dtype, written)]
            session.warn(f"{model.reference} is stored as {names[0]}, and written as {names[1]}; --dtype changes that")


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
    models, merged = aligned.models, merge is not None
    aligned.matching.require_unchanged()
    report = _record(session, aligned, merge, curves, None if request is None else request.loss)
    say_dtypes(session, models, storage)
    page = report_page(aligned.alignment, out.resolve().name, what, facts=facts(report), barriers=curves)
    write_merged(
        out,
        like.stored.in_saved_form(state),
        report=report,
        config=untied_config(like.config, aligned.alignment.untied),
        architecture=like.architecture,
        home=home_of(type(like.model)),
        source=like.folder,
        base_models=[model.reference for model in models],
        summary=summary(aligned.alignment, " ".join(filter(None, (what, *_sentences(aligned, merged=merged))))),
        licence=shared_licence(model.folder for model in models),
        pages={REPORT: page} | ({} if request is None else recipe_of(session, request, out, report)),
        force=session.force,
        storage=storage,
        second=aligned.second if aligned.heads.second and merged else None,
        finish=partial(_finish, aligned, merged),
        inputs=request.inputs if request is not None else aligned.matching.inputs(model.reference for model in models),
    )
    return report


def _record(
    session: Session,
    aligned: Aligned,
    merge: Mapping[str, Any] | None,
    curves: Curves | None,
    loss: str | None,
) -> dict[str, Any]:
    """The record with what became of heads, borders, sizes, adapters and every tensor."""
    report = record(session, aligned.models, aligned.alignment, data=aligned.matching.data, merge=merge)
    report = aligned.read.into(report) | aligned.account(merged=merge is not None).fields
    report["heads"] = str(aligned.heads) or None
    report["not_held"] = left_out(aligned.b.model) or None
    report["related"] = None if aligned.alignment.related is None else asdict(aligned.alignment.related)
    report["enlarged"] = aligned.enlarged and aligned.enlarged.fields
    report["borders"] = aligned.borders_text(merged=merge is not None).splitlines()
    report["loss"] = loss
    report["curves"] = {name: asdict(curve) for name, curve in curves.items()} if curves else None
    report["carried"] = [adapter.name for adapter in aligned.carried.adapters]
    return report


def _finish(aligned: Aligned, merged: bool, folder: Path) -> None:
    if merged and aligned.pair is not None and aligned.pair.finish is not None:
        aligned.pair.finish(folder)
    aligned.carried.write(folder)


def untied_config(config: Any, untied: Sequence[str]) -> Any:
    """The config of an output, in which embeddings are no longer marked as tied if some tensors were untied."""
    if not untied or not hasattr(config, "tie_word_embeddings"):
        return config
    apart = copy.deepcopy(config)
    apart.tie_word_embeddings = False
    return apart


def say_untied(session: Session, untied: Sequence[str]) -> None:
    """Print the names of tensors that were untied, if any."""
    if untied:
        session.say(f"not tied any more, so that norms could be folded: {', '.join(untied)}")


def _sentences(aligned: Aligned, *, merged: bool) -> list[str]:
    lines = [str(aligned.heads), *aligned.borders_text(merged=merged).splitlines()]
    return [f"{line[0].upper()}{line[1:]}." for line in lines if line]


def tell(session: Session, out: Path, aligned: Aligned, report: Mapping[str, Any], what: str) -> None:
    """Print the certificate, the gains and where the output is; with JSON, the record without its permutations."""
    alignment = aligned.alignment
    names = list(alignment.gains)
    share = moved_share(alignment.permutations, names)
    session.say(f"certificate: {alignment.certificate}")
    if names:
        session.say(gain_table(alignment))
    count = f"{len(names)} of {len(alignment.spec.groups)} groups matched by {by(alignment.method)}"
    session.say("\n".join(filter(None, (str(aligned.read), f"{count}, {share:.1%} of their units moved"))))
    say_untied(session, alignment.untied)
    merged = report["merge"] is not None
    found, borders = aligned.account(merged=merged), aligned.borders_text(merged=merged)
    beside = left_out(aligned.b.model)
    lines = (what, str(aligned.heads), beside, borders, str(found), str(aligned.carried), f"written to {out}")
    session.say("\n".join(filter(None, lines)))
    for note in filter(None, (*aligned.read.notes, found.warning)):
        session.warn(note)
    if not names:
        session.warn("no group of these models moves, so B is used unchanged: `permgraph inspect` says why")
    if alignment.related is not None and names:
        session.warn(str(alignment.related))
    session.emit({"out": str(out)} | {key: value for key, value in report.items() if key != "permutations"})
