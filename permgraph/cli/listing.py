"""`adapters` and `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from permgraph.jobs.session import Session, table


def adapters(session: Session) -> None:
    """List the installed adapters."""
    from permgraph.adapters import installed_adapters

    found = [
        {
            "name": item.name,
            "distribution": item.distribution,
            "model_types": list(item.adapter.model_types) if item.adapter else [],
            "outputs": item.adapter.outputs if item.adapter else None,
            "problem": item.problem or None,
        }
        for item in installed_adapters()
    ]
    rows = [
        (str(f["name"]), str(f["distribution"]), ", ".join(f["model_types"] or ()), str(f["problem"] or f["outputs"]))
        for f in found
    ]
    session.say(table(("adapter", "distribution", "model types", "outputs"), rows, left=4))
    session.say("Every other model works without an adapter, by the guesses of the default one.")
    session.emit({"adapters": found})


def demo(
    session: Session,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep the results in this folder.")] = None,
) -> None:
    """Merge a speech and a music encoder, offline.

    Two small trained encoders come along, with clips to calibrate on and probes to score them; it takes minutes.
    """
    from permgraph.demo.demo import run

    run(session, out)
