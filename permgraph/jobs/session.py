"""The shared options of one run of the command line, and its output: results, progress, warnings."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from permgraph.errors import CheckpointError
from permgraph.progress import PATIENCE
from permgraph.wording import printable, reason

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int | None], None]
WIDTH = 120
PATIENCE_OF_A_LOG, PAUSE_OF_A_LOG = 60.0, 60.0
"""Seconds after which it does so in a log, and between two lines of one stage."""


@dataclass(frozen=True)
class Session:
    """The options that all commands share, and the three kinds of output.

    Results for people go to stdout, or to stderr if `json` reserves stdout for the one object of `emit`; progress and
    warnings go to stderr. `piped`: an output file was asked for on stdout. `quiet`: print only results, warnings and
    errors. `command`: what was typed, as a list; `given`: the shared options in it. `rank`: the number of this process
    among several that do one job; only the first prints.
    """

    json: bool = False
    piped: bool = False
    quiet: bool = False
    debug: bool = False
    force: bool = False
    seed: int = 0
    device: str = "cpu"
    command: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()
    rank: int = 0

    @property
    def console(self) -> Console:
        """Where results for people go."""
        return _console(stderr=self.json or self.piped)

    def say(self, result: Any = "") -> None:
        """A result for people: text, or something that rich draws."""
        if self.rank or (self.json and self.quiet):
            return
        with _written():
            console = self.console
            if not isinstance(result, str) and console.is_terminal:
                console.print(result)
                return
            text = printable(result) if isinstance(result, str) else _plain_lines(console, result)
            print(text, file=sys.stderr if self.json or self.piped else sys.stdout, flush=True)

    def warn(self, text: str) -> None:
        """Print a problem that did not stop the job."""
        if not self.rank:
            print(f"warning: {printable(text)}", file=sys.stderr, flush=True)

    def emit(self, value: Mapping[str, Any]) -> None:
        """Print the one JSON object on stdout, if it was asked for."""
        self.emit_text(json.dumps(plain(value), allow_nan=False))

    def emit_text(self, text: str) -> None:
        """The same, for an object that is text already."""
        if self.json and not self.rank:
            with _written():
                print(text, flush=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A function (stage, done, total) that shows how far a job is and the time left.

        It appears after two seconds. If stderr is no terminal, it prints a line for each stage, and some in between.
        """
        console = _console(stderr=True)
        if self.rank or self.quiet:
            yield lambda stage, done, total: None
            return
        if not console.is_terminal:
            yield _Log().show
            return
        bars = _bars(console)
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        appear = threading.Timer(PATIENCE, bars.start)
        appear.daemon = True
        appear.start()
        try:
            yield show
        finally:
            appear.cancel()
            appear.join()
            bars.stop()


def _bars(console: Any) -> Any:
    """A bar for each stage, with the time that it has taken and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bars,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    stage = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Bars(*stage, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, transient=True)


class _Log:
    """Progress in a file or a pipe: nothing for a short job, else a line for each stage, and more for a long stage."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._stage = ""

    def show(self, stage: str, done: int, total: int | None) -> None:
        """Print a line, if it is time for one."""
        now = time.monotonic()
        if now - self._start < PATIENCE_OF_A_LOG or (stage == self._stage and now - self._last < PAUSE_OF_A_LOG):
            return
        far = f" {done} of {total}" if total and total > 1 else ""
        print(f"{stage}{far}, after {now - self._start:.0f} s", file=sys.stderr, flush=True)
        self._stage, self._last = stage, now


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", left: int = 1) -> Any:
    """A rich table; the first `left` columns are words, the others numbers."""
    from rich import box
    from rich.table import Table

    drawn = Table(title=title or None, title_justify="left", box=box.SIMPLE)
    for k, name in enumerate(columns):
        drawn.add_column(name, justify="left" if k < left else "right", no_wrap=k >= left, overflow="fold")
    for row in rows:
        drawn.add_row(*map(printable, row))
    return drawn


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - else Python fails again when it flushes stdout at exit
        raise CheckpointError(
            f"the terminal, file or pipe that stdout leads to cannot be written: {reason(error)}. The "
            "command's other outputs were written."
        ) from error


def plain(value: Any) -> Any:
    """`value` as JSON: tuples become lists, and numbers that are not finite null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain_lines(console: Console, result: Any) -> str:
    """What rich draws, without the spaces that fill its lines."""
    with console.capture() as drawn:
        console.print(result)
    return "\n".join(line.rstrip() for line in drawn.get().splitlines())


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # Names of models must not be read as markup; a file or a pipe has no width.
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else WIDTH)
