"""What every command has: the shared options, before or after its name, and how errors end it."""

import inspect
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from permgraph.cli import stopping
from permgraph.cli.examples import EXAMPLES
from permgraph.errors import PermgraphError
from permgraph.jobs.processes import rank_of_torchrun
from permgraph.jobs.session import Session
from permgraph.wording import printable, reason, shortened

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks, and the warnings of libraries.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and everything else on stderr.")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.  [default: 0]", show_default=False),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Where to compute: cpu, cuda or cuda:N.  [default: cpu]", show_default=False),
]


IN_SEVERAL = ("align", "merge")
"""Commands whose work several processes share."""


ANY_USAGE_ERROR: Any = typer.BadParameter.__base__
"""Also those for which Typer has no public name."""


class UsageError(typer.BadParameter):
    """A command line that cannot be run: how it is used and what is wrong with it on stderr, exit status 2."""

    def format_message(self) -> str:
        """The message as it is."""
        return self.message


def _require_filled(args: list[str]) -> None:
    """Raise UsageError for an empty argument, which as a path would be the working folder."""
    for before, arg in zip(["the command", *args], args, strict=False):
        if not arg.strip() or (arg.startswith("--") and arg.endswith("=")):
            place = arg.removesuffix("=") if arg.strip() else before
            raise UsageError(f"the argument after {place} is empty: is a variable of the shell not set?")


def require_apart(**written: Path | str | None) -> None:
    """Raise UsageError if two options write to one file, or both to stdout."""
    from permgraph.jobs.files import STDOUT

    taken: dict[str, str] = {}
    for option, path in written.items():
        place = "" if path is None else "stdout" if str(path) == STDOUT else str(Path(path).absolute())
        if place and place in taken:
            where = place if place == "stdout" else str(path)
            raise UsageError(f"--{taken[place]} and --{option} both write to {where}: give two places")
        taken[place] = option


def shared_options(
    debug: Debug = False,
    quiet: Quiet = False,
    force: Force = False,
    json: Json = False,
    seed: Seed = None,
    device: Device = None,
) -> dict[str, Any]:
    """The options that all commands share, where they were given."""
    given = {"debug": debug, "quiet": quiet, "force": force, "json": json, "seed": seed, "device": device}
    return {name: value for name, value in given.items() if value not in (None, False)}


class Command(TyperCommand):
    """A command that remembers its arguments, and in which `--json FILE` may lack the file: then it is stdout."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was typed, and give `--json` the name of stdout if it takes a file and none is given."""
        ctx.meta["permgraph.arguments"] = tuple(args)
        _require_filled(args)
        for k in [k for k, arg in enumerate(args) if arg == "--json" and self._json_takes_a_file()][::-1]:
            following = args[k + 1 : k + 2]
            if not following or (following[0].startswith("-") and following[0] != "-"):
                args = [*args[: k + 1], "-", *args[k + 1 :]]
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.replace("Value error, ", "").replace("Input should be", "it should be")
            raise

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, each below what it is for, lines as they are typed."""
        formatter.write("\nExamples:\n")
        for purpose, line in EXAMPLES[str(self.name)]:
            formatter.write(f"  {purpose}{'' if purpose.endswith('?') else ':'}\n    $ {line}\n")

    def _json_takes_a_file(self) -> bool:
        return any("--json" in parameter.opts and not getattr(parameter, "is_flag", False) for parameter in self.params)


class Commands(TyperGroup):
    """All commands; a command line that cannot be run ends as every other error does, with `error: ` and what it is."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line, and exit."""
        if not options.get("standalone_mode", True):
            return super().main(*args, **options)
        try:
            sys.exit(super().main(*args, **options | {"standalone_mode": False}))
        except typer.Abort:
            sys.exit(1)
        except ANY_USAGE_ERROR as error:
            said = io.StringIO()
            error.show(said)
            print(re.sub("(?m)^Error: ", "error: ", said.getvalue(), count=1), end="", file=sys.stderr)
            sys.exit(error.exit_code)


def command(app: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register `function(session, …)` as a command: with the shared options, and `run_safely` around it.

    Of several processes that torchrun started, only the first runs a command that is not in `IN_SEVERAL`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function).parameters.values())[1:]
        shared = [
            p for p in inspect.signature(shared_options).parameters.values() if p.name not in {o.name for o in own}
        ]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared))]

        def run(ctx: typer.Context, **values: Any) -> None:
            arguments = {p.name: values.pop(p.name) for p in own}
            options = {**(ctx.obj or {}), **shared_options(**values)}
            typed = (str(ctx.info_name), *ctx.meta.get("permgraph.arguments", ()))
            if rank_of_torchrun() and str(ctx.info_name) not in IN_SEVERAL:
                return
            session = Session(**options, command=typed, given=frozenset(options), rank=rank_of_torchrun())
            run_safely(function, session, arguments)

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(cls=Command)(run)
        return function

    return register


def run_safely(function: Callable[..., None], session: Session, arguments: dict[str, Any]) -> None:
    """Run a command. Whatever goes wrong is one message on stderr and exit status 1; Ctrl-C is exit status 130.

    With `--json` the message is an object on stdout too: `{"error": {"type": …, "message": …}}`.
    """
    try:
        function(session, **arguments)
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(stopping.told()) from None
    except Exception as error:
        if stopping.received():
            raise typer.Exit(stopping.told()) from None
        if session.debug:
            traceback.print_exc()
        which = f" in process {session.rank}" if session.rank else ""
        print(f"error{which}: {_message(error)}", file=sys.stderr)
        if session.json or arguments.get("json") == "-":
            _emit_error(session, error)
        raise typer.Exit(1) from None


def _emit_error(session: Session, error: Exception) -> None:
    told = {"error": {"type": type(error).__name__, "message": _message(error)}}
    with suppress(PermgraphError):  # stdout may be what failed
        replace(session, json=True).emit(told)


def _message(error: Exception) -> str:
    if isinstance(error, PermgraphError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return printable(
            f"{os.fsdecode(error.filename)}: {reason(error)}. Check the path, its rights and the space left."
        )
    what = shortened((str(error).splitlines() or [""])[0])
    return printable(
        f"unexpected {type(error).__name__}: {what}\nThis is a bug in permgraph: please report it, "
        "with what the same command prints with --debug."
    )
