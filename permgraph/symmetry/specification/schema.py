"""The schema of a specification's JSON: a type for every place in it, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from permgraph.algebra.kinds import Kind
from permgraph.errors import SpecMismatchError

Check = Callable[[Any, str], None]
LARGEST = 1 << 40
"""Of a size or a position."""


def require_schema(data: Any) -> None:
    """Raise SpecMismatchError naming the first place in `data` that is not of its type."""
    SPECIFICATION(data, "")


def _wrong(where: str, wanted: str) -> SpecMismatchError:
    return SpecMismatchError(f"this specification is damaged (at {where or 'its root'}: {wanted}): derive it again")


def text(value: Any, where: str) -> None:
    """A string."""
    if not isinstance(value, str):
        raise _wrong(where, "text is needed")


def count(value: Any, where: str) -> None:
    """A whole number from 0 on."""
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise _wrong(where, f"a whole number from 0 to {LARGEST} is needed")


def number(value: Any, where: str) -> None:
    """A small whole number of either sign."""
    if type(value) is not int or not -8 <= value <= 8:
        raise _wrong(where, "a small whole number is needed")


def real(value: Any, where: str) -> None:
    """A finite number."""
    if type(value) not in (int, float) or not isfinite(value):
        raise _wrong(where, "a finite number is needed")


def one_of(*allowed: Any) -> Check:
    """One of these values."""

    def check(value: Any, where: str) -> None:
        if value not in allowed:
            raise _wrong(where, f"one of {', '.join(map(str, allowed))} is needed")

    return check


def many(item: Check) -> Check:
    """A list of these."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _wrong(where, "a list is needed")
        for k, one in enumerate(value):
            item(one, f"{where}[{k}]")

    return check


def row(*items: Check, optional: int = 0) -> Check:
    """A list of exactly these, of which the last `optional` may be missing."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not len(items) - optional <= len(value) <= len(items):
            raise _wrong(where, f"a list of {len(items)} is needed")
        for k, (one, item) in enumerate(zip(value, items, strict=False)):
            item(one, f"{where}[{k}]")

    return check


def named(item: Check) -> Check:
    """An object whose values are all of this type."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, "an object is needed")
        for name, one in value.items():
            item(one, f"{where}.{name}")

    return check


def fields(*, optional: tuple[str, ...] = (), **items: Check) -> Check:
    """An object with these fields, of which those named `optional` may be missing."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, "an object is needed")
        for name, item in items.items():
            if name in value:
                item(value[name], f"{where}.{name}" if where else name)
            elif name not in optional:
                raise _wrong(where, f"{name!r} is missing")

    return check


def maybe(item: Check) -> Check:
    """Null, or one of these."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            item(value, where)

    return check


KINDS = tuple(kind.value for kind in Kind if kind is not Kind.IDENTITY)
SHAPE, AXIS = many(count), row(text, count)
MOVE = row(text, many(count), many(many(count)), number, optional=1)
LAYOUT = row(SHAPE, many(row(many(count), many(row(count, count, count)), many(MOVE))))
GROUP = row(text, count, many(text), many(count), text, many(AXIS), one_of(*KINDS), optional=1)
TIES = fields(
    nodes=many(row(text, many(count), count, count, text, count, text)),
    sources=many(row(text, text, text)),
    ties=many(row(count, count, count)),
    pins=many(row(count, text)),
    aliases=named(text),
)
PLACES = many(row(text, count, number))
TRANSFERS = many(row(text, one_of(*KINDS), count, count, PLACES, PLACES, one_of(0, 1)))
SPECIFICATION = fields(
    groups=many(GROUP),
    pinned=many(row(text, count, text)),
    unreached=many(text),
    shapes=named(SHAPE),
    parameters=many(text),
    layouts=named(LAYOUT),
    mode=one_of("fixed", "free"),
    outputs=many(row(text, maybe(LAYOUT))),
    ties=TIES,
    held=many(text),
    inputs=many(row(text, SHAPE)),
    streams=many(row(many(text), LAYOUT)),
    unread=named(many(many(many(row(count, count))))),
    transfers=fields(scales=TRANSFERS, rotations=TRANSFERS, added=named(real), optional=("added",)),
    limits=named(many(text)),
    shifts=many(row(text, text, count, many(count), many(text))),
    optional=("held", "inputs", "limits", "shifts", "streams", "transfers", "unread"),
)
