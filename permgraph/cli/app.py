"""The Typer application with all commands."""

from typing import Annotated

import typer

import permgraph
from permgraph.cli import aligning, comparing, inspecting, listing, merging
from permgraph.cli.shared import Commands, Debug, Device, Force, Json, Quiet, Seed, command, shared_options

app = typer.Typer(
    cls=Commands,
    help="Derive, prove, match and merge the symmetries of any PyTorch model's weights.\n\n"
    "MODEL, A and B are each a local Hugging Face folder, a hub id, timm:NAME, or python:package.module:function "
    "(which returns model, args, kwargs).",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for function in (
    inspecting.inspect,
    inspecting.explain,
    inspecting.verify,
    aligning.align,
    merging.merge,
    comparing.compare,
    listing.adapters,
    listing.demo,
):
    command(app)(function)


def _version(wanted: bool) -> None:
    if wanted:
        print(permgraph.__version__)
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    debug: Debug = False,
    quiet: Quiet = False,
    force: Force = False,
    json: Json = False,
    seed: Seed = None,
    device: Device = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Keep the options given before the command."""
    ctx.obj = shared_options(debug, quiet, force, json, seed, device)
