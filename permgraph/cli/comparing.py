"""`compare`: are two models the same up to symmetry, of common origin, or independent?"""

from pathlib import Path
from typing import Annotated

import typer

from permgraph.cli.asked import matching_of, warn_of_unread
from permgraph.cli.options import A, Data, KindsCompared, Limit, MethodOption, ModelOption
from permgraph.cli.shared import require_apart
from permgraph.jobs.session import Session


def compare(
    session: Session,
    a: A,
    b: Annotated[str, typer.Argument(metavar="B", help="The model to compare with A.")],
    *,
    data: Data = None,
    method: MethodOption = None,
    kinds: KindsCompared = None,
    limit: Limit = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures; - is stdout.")
    ] = None,
    model: ModelOption = None,
) -> None:
    """Say whether B is A up to symmetry, a relative of it, or independent.

    B is moved to A by the element of the symmetry group that brings their weights closest. If the heads of A and B
    differ, only the base models are compared. All kinds of symmetry may move, unless --kinds says otherwise.
    """
    require_apart(json="-" if session.json else None, html=html)
    matching = matching_of(data, method, None, limit, None, kinds or "all")
    warn_of_unread(session, matching)
    from dataclasses import replace

    from permgraph.jobs import files
    from permgraph.jobs.compare import compare_two

    compare_two(replace(session, piped=str(html) == files.STDOUT), a, b, matching, html=html, like=model)
