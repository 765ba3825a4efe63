"""Parses the text of options: shares, sizes, NAME=VALUE."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from permgraph.cli.shared import UsageError

if TYPE_CHECKING:
    from permgraph.merging.shares import Weight


def require_sizes(dtype: str | None, *sizes: str | None) -> None:
    """Raise UsageError for text that is not a dtype or a size."""
    from permgraph.checkpoints.sharding import bytes_of, dtype_of
    from permgraph.errors import OptionError

    try:
        _ = dtype and dtype_of(dtype), [bytes_of(size) for size in sizes if size is not None]
    except OptionError as error:
        raise UsageError(str(error)) from None


def options_of(given: Sequence[str]) -> dict[str, Any]:
    """`density=0.2` as {"density": 0.2}: values are read as JSON if possible, else as text."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (equals and name.isidentifier()):
            raise UsageError(f"--option {text!r} is not of the form NAME=VALUE; write it as density=0.2")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def weight_of(text: str) -> Weight:
    """`0.9`, `attention=0.5,conv=0.9` or `correlation`."""
    try:
        if "=" in text:
            return _shares(text)
        return text if text == "correlation" else _share(text)
    except ValueError:
        raise UsageError(
            f"--weight {text!r} is not a share between 0 and 1, ROLE=SHARE,... or 'correlation'; write it as 0.9"
        ) from None


def _shares(text: str) -> dict[str, float]:
    """`attention=0.5,conv=0.9`: each role once."""
    found: dict[str, float] = {}
    for role, _, value in (part.partition("=") for part in text.split(",")):
        if role.strip() in found:
            raise UsageError(f"--weight {text!r} gives {role.strip()!r} two shares: give it one")
        found[role.strip()] = _share(value)
    return found


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(share)
    return share
