"""How two models are matched, from the options of a command; options that contradict each other are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from permgraph.cli.shared import UsageError
from permgraph.jobs.session import Session

if TYPE_CHECKING:
    from permgraph.jobs.matching import Matching


DATA = "the calibration data with --data; --data synthetic if there is none"


def matching_of(
    data: Path | None,
    method: str | None,
    groups: str | None,
    limit: int | None,
    mix: float | None,
    kinds: str | None,
    heads: str | None = None,
    steps: int | None = None,
) -> Matching:
    """How to match, as the options say. Raises UsageError if they contradict each other."""
    roles = None if groups is None else [role.strip() for role in groups.split(",") if role.strip()]
    if roles == []:
        raise UsageError("--groups names no role; omit it to move all groups")
    if method is not None and _method_needs_data(method) and data is None:
        raise UsageError(f"--method {method} compares activations: give {DATA}")
    if mix is not None and method not in (None, "mix"):
        raise UsageError(f"give --method {method} or --mix {mix:g}, not both")
    if mix is not None and not 0 <= mix <= 1:
        raise UsageError(f"--mix is a share from 0 (weights alone) to 1 (correlation), not {mix:g}")
    if mix and data is None:
        raise UsageError(f"--mix {mix:g} compares activations: give {DATA}")
    if limit is not None and data is None:
        raise UsageError(f"--limit {limit} is on samples of the data: give the data with --data, or leave it out")
    if steps is not None and method != "learned":
        raise UsageError(f"--steps {steps} is for learning: give --method learned, or leave it out")
    if kinds not in (None, "permutation", "signed", "all"):
        raise UsageError(f"--kinds is permutation, signed or all, not {kinds!r}")
    if heads not in (None, "merge", "first", "both"):
        raise UsageError(f"--heads is merge, first or both, not {heads!r}")
    from permgraph.jobs.matching import Matching

    return Matching(data, method, roles, limit, mix, kinds or "permutation", heads, steps=steps)


def within_memory(session: Session, matching: Matching, max_memory: str | None) -> Matching:
    """`matching` within a limit on memory: on the CPU, by weights, by correlation or learned."""
    if max_memory is None:
        return matching
    from permgraph.checkpoints.sharding import bytes_of

    if matching.mix is not None or matching.method not in (None, "weights", "correlation", "learned"):
        raise UsageError(
            "--max-memory matches by weights or by correlation, or learns: leave out --mix and any other --method"
        )
    if session.device != "cpu":
        raise UsageError(f"--max-memory computes on the CPU: leave out --device {session.device}")
    return replace(matching, max_memory=bytes_of(max_memory))


def warn_of_unread(session: Session, matching: Matching, *, read: bool = False) -> None:
    """Warn if data is given and nothing reads it: neither the matching nor, with `read`, what follows it."""
    by_weights = matching.method == "weights" or matching.mix == 0
    if matching.data is not None and by_weights and not read:
        session.warn(f"--data {matching.data} is not read: units are matched by weights alone")


def _method_needs_data(method: str) -> bool:
    from permgraph.errors import OptionError
    from permgraph.matching.pipeline import find_matcher

    try:
        return find_matcher(method).needs_data
    except OptionError as error:
        raise UsageError(f"--method: {error}") from None
