"""`merge A B C …`: more than two models, moved into the space of the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from permgraph.checkpoints.folders import require_free
from permgraph.checkpoints.model_card import home_of, shared_licence
from permgraph.checkpoints.writing import write_merged
from permgraph.jobs.account import Account, account
from permgraph.jobs.align import prepare
from permgraph.jobs.data_read import DataRead
from permgraph.jobs.folder import recipe_of, require_room, say_dtypes, say_untied, storage_of, untied_config
from permgraph.jobs.loading import load_fitted
from permgraph.jobs.matching import Matching
from permgraph.jobs.processes import joined
from permgraph.jobs.recipe_inputs import require_read
from permgraph.jobs.record import REPORT, base_and_options, facts, gains_of, origin
from permgraph.jobs.session import Session, table
from permgraph.matching.borders import Borders
from permgraph.matching.gains_report import by
from permgraph.matching.groups import select
from permgraph.matching.many import Placement, as_matched, place_models, with_borders
from permgraph.merging.many import merged
from permgraph.merging.owners import Owners
from permgraph.models.heads import common_part
from permgraph.pages.many import many_page
from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations
from permgraph.symmetry.elements.report import moved_share

if TYPE_CHECKING:
    from torch import Tensor

    from permgraph.checkpoints.sharding import Storage
    from permgraph.jobs.recipe import Request
    from permgraph.models.heads import Heads
    from permgraph.models.loaded import LoadedModel
    from permgraph.symmetry.proof.verification import Certificate
    from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass(frozen=True)
class Placed:
    """Models, the parts that are merged, their weights, the element that moves each, and the worst certificate."""

    models: Sequence[LoadedModel]
    parts: Sequence[LoadedModel]
    heads: Heads
    states: Sequence[Mapping[str, Tensor]]
    elements: Sequence[Placement]
    certificate: Certificate
    base: LoadedModel | None = None
    owners: Owners = field(default_factory=Owners)
    finish: Callable[[Path], None] | None = None
    read: DataRead = field(default_factory=DataRead)

    @property
    def borders_text(self) -> str:
        """How the axes at which a model differs from the first were merged, a line for each."""
        lines = [
            f"{model.reference} as B: {line}"
            for model, borders in zip(self.models[1:], self.owners.others, strict=False)
            for line in str(borders).splitlines()
        ]
        shared = "entries that not all models have are the mean of those that have them, at their shares"
        return "\n".join([*lines, *([shared] if lines else [])])

    @property
    def spec(self) -> PermutationSpec:
        """The group of the parts."""
        return self.elements[0].spec

    @property
    def untied(self) -> tuple[str, ...]:
        """Names of tensors that are not tied any more."""
        return self.elements[0].untied

    @property
    def fields(self) -> dict[str, Any]:
        """How the models were matched, for the record."""
        return {
            "method": self.elements[0].method,
            "gains": [gains_of(element, element.gains) for element in self.elements],
            "heads": str(self.heads) or None,
            "borders": self.borders_text.splitlines(),
            "certificate": asdict(self.certificate),
            "untied": list(self.untied),
        }


def merge_all(
    session: Session, asked: Request, out: Path, matching: Matching, weight: float, method: str = "linear"
) -> None:
    """Write A at `weight` and the others, moved, at equal shares of the rest, merged by `method`; print what moved."""
    require_free(out, force=session.force, inputs=asked.inputs)
    references = asked.models
    shares = [weight, *[(1 - weight) / (len(references) - 1)] * (len(references) - 1)]
    placed = _place(session, asked, matching)
    part = merged(
        placed.states,
        placed.elements,
        weights=shares,
        method=method,
        spec=placed.spec,
        base=None if placed.base is None else placed.base.weights,
        owners=placed.owners,
        **(asked.options or {}),
    )
    state = placed.heads.into(placed.models[0].weights, part)
    matching.require_unchanged()
    groups = select(placed.spec, matching.groups)
    tensors = account(placed.models, placed.parts, placed.heads, placed.spec, [group.name for group in groups])
    storage = storage_of(placed.models[0], asked.dtype, asked.max_shard_size)
    say_dtypes(session, placed.models, storage)
    report = placed.read.into(origin(session, placed.models, placed.spec, matching.data)) | {
        "merge": {"method": method, "weights": shares} | base_and_options(asked, placed.base),
        "groups": [group.name for group in groups],
        **placed.fields,
        **tensors.fields,
        "permutations": [element.to_arrays() for element in placed.elements],
    }
    pages = recipe_of(session, asked, out, report)
    _write(session, out, state, placed, report, shares, pages, asked.inputs, storage)
    _tell(session, out, placed, report, groups, tensors)


def _tell(
    session: Session,
    out: Path,
    placed: Placed,
    report: Mapping[str, Any],
    groups: Sequence[PermutationGroup],
    tensors: Account,
) -> None:
    """Print the worst certificate, how much moved, and what was merged; with JSON, the record without permutations."""
    references = [model.reference for model in placed.models]
    merge = report["merge"]
    session.say(f"certificate, the worst of {len(references)}: {placed.certificate}")
    session.say(_moved_table(groups, placed.elements, references))
    count = f"{len(groups)} of {len(placed.spec.groups)} groups matched by {by(report['method'])}"
    session.say("\n".join(filter(None, (str(placed.read), count))))
    what = " + ".join(f"{share:.3g} · {name}" for share, name in zip(merge["weights"], references, strict=True))
    say_untied(session, placed.untied)
    lines = (f"{merge['method']} merge, {what}", str(placed.heads), placed.borders_text, str(tensors))
    session.say("\n".join(filter(None, (*lines, f"written to {out}"))))
    for note in filter(None, (*placed.read.notes, tensors.warning)):
        session.warn(note)
    session.emit({"out": str(out)} | {key: value for key, value in report.items() if key != "permutations"})


def _place(session: Session, asked: Request, matching: Matching) -> Placed:
    count = len(asked.models)
    with joined(session, shares=matching.shares) as session, session.progress() as progress:
        fitted = load_fitted(
            session, asked.references, progress, asked.model,
            on_demand=matching.max_memory is not None, with_base=len(asked.references) > count,
        )  # fmt: skip
        models = fitted.models
        require_read(asked, [model.hashes for model in models])
        require_room(Path(str(asked.out)), models[0], asked.dtype)
        parts, heads = common_part(models, matching.heads)
        borders = fitted.below(parts)
        base, models, parts = next(iter(parts[count:]), None), models[:count], parts[:count]
        known, options = prepare(session, parts, matching, progress)
        elements = place_models(known, **options)
        elements = with_borders(elements, borders[:count]) if borders else elements
    proofs = [element.certificate for element in elements if element.certificate is not None]
    owners = Owners(borders[1:count], (*borders[count:], Borders())[0])
    worst = max(proofs, key=lambda proof: proof.max_error)
    read = DataRead.of(options["data"])
    states = as_matched(known.states, elements)
    return Placed(models, parts, heads, states, elements, worst, base, owners, fitted.finish, read)


def _write(
    session: Session,
    out: Path,
    state: Mapping[str, Tensor],
    placed: Placed,
    report: Mapping[str, Any],
    shares: Sequence[float],
    pages: dict[str, str],
    inputs: Sequence[str],
    storage: Storage,
) -> None:
    first = placed.models[0]
    how = report["merge"]["method"]
    numbers = ", ".join(f"{share:.3g}" for share in shares)
    card = f"{how[0].upper()}{how[1:]} merge of {len(placed.models)} models with shares {numbers}."
    write_merged(
        out,
        first.stored.in_saved_form(state),
        report=report,
        config=untied_config(first.config, placed.untied),
        architecture=first.architecture,
        home=home_of(type(first.model)),
        source=first.folder,
        base_models=[model.reference for model in placed.models],
        summary=f"{card} The others' units were moved to match the first's.\n\nCertificate: {placed.certificate}.",
        licence=shared_licence(model.folder for model in placed.models),
        pages={REPORT: _page(out, placed, report, card)} | pages,
        force=session.force,
        inputs=inputs,
        storage=storage,
        finish=placed.finish,
    )


def _page(out: Path, placed: Placed, report: Mapping[str, Any], what: str) -> str:
    names = [f"{chr(65 + k)}: {model['model']}" for k, model in enumerate(report["inputs"]["models"])]
    elements = dict(zip(names[1:], placed.elements[1:], strict=True))
    return many_page(
        placed.spec,
        elements,
        report["groups"],
        placed.certificate,
        out.resolve().name,
        what,
        gains={name: element.gains for name, element in elements.items()},
        facts=facts(report),
    )


def _moved_table(groups: Sequence[PermutationGroup], found: Sequence[Permutations], references: Sequence[str]) -> Any:
    rows = [
        (pattern, *(f"{moved_share(element, names):.1%}" for element in found[1:]))
        for pattern, names in fold(group.name for group in groups)
    ]
    return table(("group", *(Path(name).name for name in references[1:])), rows, title="Units moved to match A's")
