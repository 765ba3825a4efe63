"""`inspect`, `explain` and `verify`: the symmetry groups of one model, their reasons, and the proof."""

import enum
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from permgraph.cli.shared import UsageError, require_apart
from permgraph.jobs.session import Session

if TYPE_CHECKING:
    from permgraph.models.loaded import LoadedModel
    from permgraph.symmetry.specification.spec import PermutationSpec

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a hub id, timm:NAME or python:module:function.")]


class Outputs(enum.StrEnum):
    """Whether the model's outputs are fixed or may be permuted."""

    fixed = "fixed"
    free = "free"


OutputsOption = Annotated[
    Outputs | None,
    typer.Option("--outputs", help="Whether outputs may be permuted.  [default: as the model's adapter says]"),
]


class Kinds(enum.StrEnum):
    """What is derived in addition to permutations."""

    permutation = "permutation"
    signed = "signed"
    all = "all"


KindsOption = Annotated[
    Kinds,
    typer.Option(
        "--kinds", help="permutation; signed: signs too; all: scales, rotations and invertible maps, norms folded."
    ),
]


def inspect(
    session: Session,
    model: Model,
    outputs: OutputsOption = None,
    kinds: KindsOption = Kinds.permutation,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="[FILE]", help="Write the specification; without FILE, or for -, to stdout."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write a page with blocks, groups and ties to explore; - is stdout."
        ),
    ] = None,
    dot: Annotated[
        Path | None, typer.Option("--dot", metavar="FILE", help="Write the graph of ties; - is stdout.")
    ] = None,
) -> None:
    """Show the symmetry groups of a model.

    The weights are read only if the model cannot be traced without them, or with --kinds all, which folds its norms.
    """
    require_apart(json=json or ("-" if session.json else None), html=html, dot=dot)
    from permgraph.jobs import files

    piped = files.STDOUT in (str(html), str(dot))
    session = replace(session, json=session.json or json == "-", piped=piped)
    targets = {"json": None if json in (None, "-") else Path(json), "html": html, "dot": dot}
    for path in targets.values():
        if path is not None:
            files.require_writable(path, force=session.force, inputs=[model])
    spec, mode = _derive(session, model, outputs, kinds, weights=False)[1:]
    session.say(f"{model}, outputs {mode}: {spec}")
    contents: dict[str, Callable[[], str]] = {
        "json": spec.to_json,
        "html": partial(_page, spec, model),
        "dot": partial(files.dot, spec),
    }
    for kind, path in targets.items():
        if path is not None:
            files.write(path, contents[kind](), force=session.force)
            if str(path) != files.STDOUT:
                session.say(f"written to {path}")
    session.emit_text(spec.to_json())


def _page(spec: "PermutationSpec", model: str) -> str:
    from permgraph.checkpoints.model_card import public_name
    from permgraph.pages.inspection import inspection_page

    return inspection_page(spec, public_name(model))


def explain(
    session: Session,
    model: Model,
    axis: Annotated[str, typer.Argument(metavar="PARAM:DIM", help="An axis of a parameter.")],
    other: Annotated[
        str | None, typer.Argument(metavar="PARAM:DIM", help="A second axis: why do the two move together?")
    ] = None,
    outputs: OutputsOption = None,
    kinds: KindsOption = Kinds.permutation,
) -> None:
    """Explain why an axis moves or is pinned, or why two move together.

    With --kinds also what bounds a group.
    """
    first, second = _axis(axis), None if other is None else _axis(other)
    spec = _derive(session, model, outputs, kinds, weights=False)[1]
    found = spec.explain(first, second)
    session.say(str(found))
    session.emit(asdict(found))


def verify(
    session: Session,
    model: Model,
    outputs: OutputsOption = None,
    kinds: KindsOption = Kinds.permutation,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Random parameters and elements to try.")] = 3,
) -> None:
    """Prove that the groups leave the model's function unchanged.

    Random elements are applied in float64; exit status 1 if one changes the outputs.
    """
    from permgraph.symmetry.proof.verification import verify as prove

    loaded, spec, _ = _derive(session, model, outputs, kinds, weights=True)
    certificate = prove(loaded.model, loaded.args, loaded.kwargs, spec=spec, trials=trials, seed=session.seed)
    session.say(str(certificate))
    session.emit(asdict(certificate) | {"model": model, "groups": len(spec.groups), "log10_order": spec.log10_order})
    if not certificate.ok:
        raise typer.Exit(1)


def _derive(
    session: Session, model: str, outputs: Outputs | None, kinds: Kinds, *, weights: bool
) -> "tuple[LoadedModel, PermutationSpec, str]":
    """The model, its specification and mode; with weights if asked for, or if it cannot be traced without them.

    A model whose control flow depends on the values of its inputs has no values before its weights are loaded.
    """
    from permgraph.errors import CaptureError, PermgraphError

    weights = weights or kinds is Kinds.all
    try:
        return _derived(session, model, outputs, kinds, weights=weights)
    except CaptureError as error:
        if weights:
            raise
        try:
            return _derived(session, model, outputs, kinds, weights=True)
        except CaptureError:
            raise
        except PermgraphError as other:
            raise CaptureError(f"{error}. Nor can it be traced with its weights: {other}") from error


def _derived(
    session: Session, model: str, outputs: Outputs | None, kinds: Kinds, *, weights: bool
) -> "tuple[LoadedModel, PermutationSpec, str]":
    with session.progress() as progress:
        progress("loading", 0, None)
        from permgraph.models.devices import device_of
        from permgraph.models.loading import load
        from permgraph.symmetry.derivation.derive import derive
        from permgraph.tracing.results import hold_all, left_out

        loaded = load(model, weights=weights, pretrained=kinds is Kinds.all)  # a proof draws its own weights
        loaded = loaded.on(device_of(session.device)) if weights else loaded
        if kinds is Kinds.all:
            progress("folding", 0, None)
            _fold(session, loaded)
        progress("deriving", 0, None)
        mode: str = outputs.value if outputs is not None else loaded.outputs
        if outputs is not None:
            hold_all(loaded.model)
        spec = derive(loaded.model, loaded.args, loaded.kwargs, outputs=mode, tie=loaded.tie, kinds=kinds.value)
    if beside := left_out(loaded.model):
        session.say(beside)
    return loaded, spec, mode


def _fold(session: Session, loaded: "LoadedModel") -> None:
    """Fold the norms of a model that was loaded for this job, and print which were folded, and why others were not."""
    from permgraph.symmetry.derivation.folding import fold
    from permgraph.symmetry.elements.folded_names import fold as together

    folded = fold(loaded.model, loaded.args, loaded.kwargs)
    loaded.model.load_state_dict(folded.state_dict)
    reasons = {why for why in folded.report.values() if isinstance(why, str)}
    if folded.folded:
        names = ", ".join(name for name, _ in together(folded.folded))
        session.say(f"folded into the layers that read them: {names}")
    for why in sorted(reasons):
        names = ", ".join(name for name, _ in together(n for n, reason in folded.report.items() if reason == why))
        session.say(f"not folded: {names}: {why}")


def _axis(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.+):(-?\d+)", text)
    if match is None:
        raise UsageError(f"{text!r} is not of the form PARAM:DIM, as in encoder.layer_norm.weight:0")
    return match[1], int(match[2])
