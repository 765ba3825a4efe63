"""How far a long call is, as a bar below the cell of a notebook; the notebook draws it, without widgets."""

from __future__ import annotations

import functools
import html
import sys
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PATIENCE = 2.0
"""Seconds after which a job shows how far it is."""
PAUSE = 0.2
"""Seconds between two drawings of a bar."""


def with_bar(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose argument `progress` is by default a bar in a notebook, and nothing elsewhere.

    The bar appears after two seconds and goes when the call ends.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        display = _display() if kwargs.get("progress") is None else None
        if display is None:
            return function(*args, **kwargs)
        bar = Bar(display)
        try:
            return function(*args, **{**kwargs, "progress": bar.show})  # type: ignore[arg-type]
        finally:
            bar.close()

    return run


class Bar:
    """One line for each stage, drawn by IPython's `display` and then updated in place."""

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display, self._handle = display, None
        self._stages: dict[str, tuple[int, int | None]] = {}
        self._start, self._next = time.monotonic(), time.monotonic() + PATIENCE

    def show(self, stage: str, done: int, total: int | None) -> None:
        """Note how far a stage is, and draw all of them where it is time to."""
        self._stages[stage] = (done, total)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PAUSE
        self._draw(now - self._start)

    def close(self) -> None:
        """Take the bar away."""
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def _draw(self, seconds: float) -> None:
        lines, rows = list[str](), list[str]()
        for stage, (done, total) in self._stages.items():
            lines.append(f"{stage} {done} of {total}" if total else f"{stage} {done or ''}".rstrip())
            filled = f" value={done} max={total}" if total else ""
            rows.append(f"<div><progress{filled}></progress> {html.escape(lines[-1])}</div>")
        drawn = {"text/plain": "\n".join(lines), "text/html": f"{''.join(rows)}<div>{seconds:.0f} s</div>"}
        if self._handle is None:
            self._handle = self._display(drawn, raw=True, display_id=True)
        else:
            self._handle.update(drawn, raw=True)


def _display() -> Callable[..., Any] | None:
    """IPython's `display` where a kernel runs this code, as in a notebook; None in a script or a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    found: Callable[..., Any] = display
    return found
