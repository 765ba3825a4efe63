"""`merge`: moves B to A and merges the two; more than two models are moved into one space."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from permgraph.cli.asked import matching_of, warn_of_unread, within_memory
from permgraph.cli.options import (
    Data,
    Dtype,
    Enlarge,
    Groups,
    HeadsOption,
    Kinds,
    Limit,
    Loss,
    MaxMemory,
    MaxShardSize,
    MaybeA,
    MaybeB,
    MaybeOut,
    MethodOption,
    MixOption,
    ModelOption,
    Steps,
)
from permgraph.cli.parsing import options_of, require_sizes, weight_of
from permgraph.cli.shared import UsageError
from permgraph.jobs.session import Session

if TYPE_CHECKING:
    from permgraph.jobs.recipe import Request


def merge(
    session: Session,
    a: MaybeA = None,
    b: MaybeB = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="C", help="More models; they are moved too.")] = None,
    *,
    out: MaybeOut = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A recipe in TOML or YAML; command-line options override it."),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option("--allow-code", help="Let the recipe run code (python:...) and name places outside its folder."),
    ] = False,
    data: Data = None,
    weight: Annotated[
        str | None,
        typer.Option(
            "--weight",
            metavar="SHARE",
            help="A's share; the others share the rest equally. Or shares by role, e.g. "
            "attention=0.5,conv=0.9,default=0.7; or "
            "'correlation': more of A where a group matched worse.  [default: equal shares]",
        ),
    ] = None,
    merge: Annotated[
        str | None,
        typer.Option(
            "--merge",
            metavar="HOW",
            help="linear, slerp or an installed merge method; with --data also regmean or pleas (least squares, layer "
            "by layer), and +refit, +repair, +batch_norm or +heal (100 steps of training) after any of them, as in "
            "linear+heal.  [default: linear]",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="MODEL",
            help="What A was fine-tuned from, for installed merge methods that need it.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="An option of an installed merge method; may be repeated."),
    ] = None,
    method: MethodOption = None,
    steps: Steps = None,
    mix: MixOption = None,
    groups: Groups = None,
    kinds: Kinds = None,
    limit: Limit = None,
    loss: Loss = None,
    dtype: Dtype = None,
    max_shard_size: MaxShardSize = None,
    max_memory: MaxMemory = None,
    model: ModelOption = None,
    heads: HeadsOption = None,
    enlarge: Enlarge = False,
) -> None:
    """Align B with A and merge the two.

    The output is weight · A + (1 - weight) · B, with B moved to A. More than two models are moved into one space, with
    A as the reference. Heads are merged if all models have the same head with the same labels; otherwise A's head is
    kept. The folder also gets a recipe that reproduces the weights, bit for bit on this machine.
    """
    from permgraph.jobs.recipe import Request

    typed = Request(
        models=tuple(name for name in (a, b, *(more or ())) if name is not None),
        data=None if data is None else str(data),
        weight=weight,
        merge=merge,
        base=base,
        options=options_of(option or ()) or None,
        method=method,
        mix=mix,
        steps=steps,
        groups=groups,
        kinds=kinds,
        limit=limit,
        loss=loss,
        dtype=dtype,
        max_shard_size=max_shard_size,
        max_memory=max_memory,
        model=model,
        heads=heads,
        enlarge=enlarge or None,
        out=None if out is None else str(out),
        seed=session.seed if "seed" in session.given else None,
        device=session.device if "device" in session.given else None,
    )
    session, request = _prepared(session, typed, config, allow_code)
    if len(request.models) < 2:
        raise UsageError("two models are needed, A and B: give them here or in a --config FILE")
    if request.out is None:
        raise UsageError("no folder to write is given: name it with --out DIR")
    _merge(session, request, config)


def _prepared(session: Session, typed: "Request", config: Path | None, allow_code: bool) -> "tuple[Session, Request]":
    """The request completed by the recipe, and the session with the recipe's seed and device."""
    if config is None:
        if allow_code:
            raise UsageError("--allow-code is for a recipe: give one with --config, or leave it out")
        return session, typed
    from permgraph.jobs.recipe import read_recipe
    from permgraph.jobs.recipe_inputs import require_trusted

    request = typed.over(read_recipe(config))
    if not allow_code:
        require_trusted(request, typed)
    if typed.models:  # other models than the recipe's have other files
        request = replace(request, sha256=None)
    if request.threads is not None:
        import torch

        torch.set_num_threads(request.threads)
    seed, device = request.seed or 0, request.device or session.device
    return replace(session, seed=seed, device=device), request


def _require_consistent(request: "Request") -> None:
    """Raise UsageError for options that exclude each other, or that only a merge of two models has."""
    count = len(request.models)
    if count > 2 and request.heads == "both":
        raise UsageError(f"--heads both is for two models, and {count} are given: give first or merge")
    if count > 2 and request.enlarge:
        raise UsageError(f"--enlarge is for two models, and {count} are given: omit it")
    if count > 2 and request.loss is not None:
        raise UsageError(f"--loss is between two models, and {count} are given: omit it")
    if request.loss == "own" and request.data is None:
        raise UsageError("--loss own is the loss on texts: give them with --data")
    if request.max_memory is not None and request.loss is not None:
        raise UsageError("--loss runs both models whole, and --max-memory reads them in parts: give one of the two")


def _merge(session: Session, request: "Request", config: Path | None) -> None:
    how, count = request.merge or "linear", len(request.models)
    data = None if request.data is None else Path(request.data)
    _require_consistent(request)
    require_sizes(request.dtype, request.max_shard_size, request.max_memory)
    matching = matching_of(
        data, request.method, request.groups, request.limit, request.mix, request.kinds, request.heads, request.steps
    )
    matching = replace(within_memory(session, matching, request.max_memory), enlarge=bool(request.enlarge))
    share = 1 / count if request.weight is None else weight_of(request.weight)
    needs_data = _needs_data(how, data, count)
    if needs_data and request.max_memory is not None:
        raise UsageError(f"--merge {how} runs merged models whole, and --max-memory reads them in parts: give one")
    warn_of_unread(session, matching, read=needs_data or request.loss == "own")
    if config is not None:
        from permgraph.jobs.recipe_inputs import require_unchanged

        require_unchanged(config, request)
    if count == 2:
        from permgraph.jobs.merge import merge_two

        merge_two(session, request, Path(str(request.out)), matching, share, how, needs_data=needs_data)
        return
    if not isinstance(share, float):
        raise UsageError(f"--weight {request.weight} is for two models, and {count} are given: give a number")
    from permgraph.jobs.merge_many import merge_all

    merge_all(session, request, Path(str(request.out)), matching, share, how)


def _needs_data(method: str, data: Path | None, count: int) -> bool:
    from permgraph.errors import OptionError
    from permgraph.merging.merge import steps_of

    try:
        steps = steps_of(method)
    except OptionError as error:
        raise UsageError(f"--merge: {error}") from None
    needs_data, most = steps.needs_data, steps.most
    if most is not None and count > most:
        raise UsageError(f"--merge {method} merges two models, and {count} are given: give two, or take linear")
    if needs_data and data is None:
        raise UsageError(f"--merge {method} compares activations: give the calibration data with --data")
    return needs_data
