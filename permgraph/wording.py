"""Words of messages: lists cut short, near names, what others said on one line, control characters escaped."""

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST = 4000
"""Letters of a message; a file can be made so that quoting it would fill the memory."""


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal would obey or cannot show, line feeds and tabs aside."""
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs") else _escaped(letter)
        for letter in text
    )


def shortened(text: str, most: int = LONGEST) -> str:
    """The beginning and the end of a text of more than `most` letters."""
    if len(text) <= most:
        return text
    return f"{text[: most * 3 // 4]} … ({len(text) - most} letters left out) … {text[len(text) - most // 4 :]}"


def few(names: Sequence[str], most: int = 8, between: str = ", ") -> str:
    """The first `most` names, joined, and how many more there are."""
    return between.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def near(name: str, known: Iterable[str]) -> str:
    """`; near: x, y`: the known names nearest to a wrong one, or the first; `; there are none` where none is known."""
    names = [*known]
    found = get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
    return f"; near: {', '.join(found)}" if found else "; there are none"


def reason(error: BaseException) -> str:
    """What another library or the system said, on one line and without a full stop, to be part of a message."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split()).rstrip(".")


def described(error: BaseException) -> str:
    """The same behind the name of the exception, for code that may raise anything."""
    return f"{type(error).__name__}: {reason(error)}"


def first_line(why: object) -> str:
    """The first line of what an error says, without a full stop; its type where it says nothing."""
    return (str(why).splitlines() or [type(why).__name__])[0].rstrip(".")


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
