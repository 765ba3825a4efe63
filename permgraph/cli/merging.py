"""`align` and `merge`: B moved to A, and the two made one."""

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from permgraph.cli.session import Session

if TYPE_CHECKING:
    from permgraph.cli.jobs import Matching
    from permgraph.merging.shares import Weight


ALIGNED = "The second model, its units moved to the places of the first one's. Its function is unchanged."


class Method(enum.StrEnum):
    """How units of A and B are compared."""

    correlation = "correlation"
    weights = "weights"


A = Annotated[str, typer.Argument(metavar="A", help="The reference: a folder, a hub id, timm:NAME or python:….")]
B = Annotated[str, typer.Argument(metavar="B", help="The model that is moved.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Calibration data: a folder of audio, images or text.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take at most so many samples of the data.")]
MethodOption = Annotated[
    Method | None,
    typer.Option("--method", help="How to match units.  [default: correlation with --data, else weights]"),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups", metavar="ROLE,...", help="Move only these, as conv,feed_forward,attention.  [default: all]"
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")]


def align(
    session: Session,
    a: A,
    b: B,
    *,
    out: Out,
    data: Data = None,
    method: MethodOption = None,
    groups: Groups = None,
    limit: Limit = None,
) -> None:
    """Move the units of B to the places of A's.

    What is written has B's function, and can be merged with A by any tool. Where the heads of A and B differ, it is B's
    base model alone.
    """
    matching = _matching(data, method, groups, limit)
    from permgraph.cli import jobs

    aligned = jobs.load_and_align(session, a, b, out, matching)
    part = "" if aligned.heads.whole else "the base model of "
    what = f"{part}{b}, its units in the places of {a}'s; the function is unchanged"
    state = aligned.alignment.state_dict
    report = jobs.write(session, out, state, aligned, like=aligned.b, what=ALIGNED, force=session.force)
    jobs.tell(session, out, aligned, report, what)


def merge(
    session: Session,
    a: A,
    b: B,
    more: Annotated[list[str] | None, typer.Argument(metavar="C", help="More models; they are moved too.")] = None,
    *,
    out: Out,
    data: Data = None,
    weight: Annotated[
        str | None,
        typer.Option(
            "--weight",
            metavar="SHARE",
            help="A's share; the others share the rest. By role, as attention=0.5,conv=0.9,default=0.7; or "
            "'correlation': the more of A the worse a group matched.  [default: equal shares]",
        ),
    ] = None,
    merge: Annotated[
        str,
        typer.Option(
            "--merge",
            metavar="HOW",
            help="linear or slerp; with --data also regmean or pleas (least squares, layer by layer), and +repair or "
            "+batch_norm after any of them, as in linear+repair.",
        ),
    ] = "linear",
    method: MethodOption = None,
    groups: Groups = None,
    limit: Limit = None,
) -> None:
    """Align B with A and merge the two.

    What is written is weight · A + (1 - weight) · B, B moved to A. More than two models are moved into one space, with
    A as its reference. Heads are merged where all models have the same one with the same labels; else A keeps its own.
    """
    matching = _matching(data, method, groups, limit)
    if more and merge != "linear":
        raise typer.BadParameter(f"--merge {merge} merges two models, and {2 + len(more)} are given")
    share = 1 / (2 + len(more or ())) if weight is None else _weight(weight)
    needs_data = _needs_data(merge, data)
    if more:
        if not isinstance(share, float):
            raise typer.BadParameter(
                f"--weight {weight} is for two models, and {2 + len(more)} are given: give a number"
            )
        from permgraph.cli.many import merge_all

        merge_all(session, [a, b, *more], out, matching, share)
    else:
        _merge_two(session, a, b, out, matching, share, merge, needs_data)


def _merge_two(
    session: Session,
    a: str,
    b: str,
    out: Path,
    matching: "Matching",
    weight: "Weight",
    method: str,
    needs_data: bool,
) -> None:
    from permgraph.cli import jobs
    from permgraph.merging.merge import merge as merged

    aligned = jobs.load_and_align(session, a, b, out, matching)
    with session.progress() as progress:
        data = jobs.calibration(session, aligned.a, matching) if needs_data else None
        part = merged(
            aligned.a.model,
            aligned.b.model,
            alignment=aligned.alignment,
            weight=weight,
            method=method,
            data=data,
            progress=progress,
        )
    state = aligned.heads.into(aligned.models[0].model.state_dict(), part)
    shares = f"{method} merge, {_shares(weight)}"
    how = {"method": method, "weight": weight}
    card = f"{shares.format('A', 'B')}, B's units moved to the places of A's."
    report = jobs.write(session, out, state, aligned, like=aligned.models[0], what=card, merge=how, force=session.force)
    jobs.tell(session, out, aligned, report, shares.format(a, b))


def _needs_data(method: str, data: Path | None) -> bool:
    from permgraph.errors import OptionError
    from permgraph.merging.merge import recipe

    try:
        needs_data = recipe(method).needs_data
    except OptionError as error:
        raise typer.BadParameter(f"--merge: {error}") from None
    if needs_data and data is None:
        raise typer.BadParameter(f"--merge {method} compares activations: give the calibration data with --data")
    return needs_data


def _weight(text: str) -> "Weight":
    """`0.9`, `attention=0.5,conv=0.9` or `correlation`."""
    try:
        if "=" in text:
            return {name.strip(): _share(value) for name, _, value in (part.partition("=") for part in text.split(","))}
        return text if text == "correlation" else _share(text)
    except ValueError:
        raise typer.BadParameter(
            f"--weight {text!r} is no share between 0 and 1, no ROLE=SHARE,..., and not 'correlation'"
        ) from None


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(share)
    return share


def _shares(weight: "Weight") -> str:
    """What A and B contribute, with places for their names."""
    if isinstance(weight, float):
        return f"{weight:g} · {{}} + {1 - weight:g} · {{}}"
    by = weight if isinstance(weight, str) else ", ".join(f"{name} {share:g}" for name, share in weight.items())
    return f"{{}} with {{}}, the first one's share by {by}"


def _matching(data: Path | None, method: Method | None, groups: str | None, limit: int | None) -> "Matching":
    roles = None if groups is None else [role.strip() for role in groups.split(",") if role.strip()]
    if roles == []:
        raise typer.BadParameter("--groups names no role; leave it away to move all groups")
    if method is Method.correlation and data is None:
        raise typer.BadParameter("--method correlation compares activations: give the calibration data with --data")
    from permgraph.cli.jobs import Matching

    return Matching(data, None if method is None else method.value, roles, limit)
