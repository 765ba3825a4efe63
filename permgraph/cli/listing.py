"""`adapters` and `demo`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from permgraph.jobs.session import Session, table


def adapters(session: Session) -> None:
    """List adapters, and the rules, matchers and merge methods added."""
    families, others = list(_families()), list(_others())
    rows = [(*_named(f), ", ".join(f["model_types"] or ()), str(f["problem"] or f["outputs"])) for f in families]
    session.say(table(("adapter", "distribution", "model types", "outputs"), rows, left=4))
    session.say("Models without an adapter work too: the default one guesses their inputs.")
    if others:
        rows = [(str(f["kind"]), *_named(f), str(f["problem"] or f["about"])) for f in others]
        session.say(table(("kind", "name", "distribution", "what it is"), rows, left=4))
    session.emit({"adapters": families, "plugins": others})


def _named(found: dict[str, Any]) -> tuple[str, str]:
    return str(found["name"]), str(found["distribution"])


def _families() -> Iterator[dict[str, Any]]:
    from permgraph.adapters import installed_adapters

    for item in installed_adapters():
        yield {
            "name": item.name,
            "distribution": item.distribution,
            "model_types": list(item.adapter.model_types) if item.adapter else [],
            "outputs": item.adapter.outputs if item.adapter else None,
            "problem": item.problem or None,
        }


def _others() -> Iterator[dict[str, Any]]:
    """What other packages add. PyTorch is imported only if there is something."""
    from permgraph.plugins import plugins

    if plugins("permgraph.rules"):
        from permgraph.rules.installed import installed_rules

        for rules in installed_rules():
            yield _entry("rules", rules.name, rules.distribution, ", ".join(rules.operations), rules.problem)
    if plugins("permgraph.matchers"):
        from permgraph.matching.match import matcher

        for one in matcher.installed():
            yield _entry(matcher.what, one.name, one.distribution, one.reference, one.problem)
    if plugins("permgraph.merges"):
        from permgraph.merging import merge_method

        for one in merge_method.installed():
            yield _entry(merge_method.what, one.name, one.distribution, one.reference, one.problem)


def _entry(kind: str, name: str, distribution: str, about: str, problem: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "distribution": distribution, "about": about, "problem": problem or None}


def demo(
    session: Session,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep the results in this folder.")] = None,
) -> None:
    """Merge a speech and a music encoder, offline.

    Needs a source checkout, which has two small trained encoders, clips to calibrate on and probes to score them.
    Takes minutes.
    """
    from permgraph.demo.demo import run

    run(session, out)
