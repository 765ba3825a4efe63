"""Every error a user can meet; each message says what is wrong, where, and what to do."""

import unicodedata

LONGEST = 4000
"""Letters of a message; a file can be made so that quoting it would fill the memory."""


class PermgraphError(Exception):
    """Base of every error that permgraph raises on purpose.

    A program that wants to survive bad input catches this one. Anything else that escapes is a bug in permgraph. What
    a message quotes of a file cannot steer a terminal: control characters are escaped.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(shortened(str(message))))


class PermgraphWarning(UserWarning):
    """Something that was asked for had no effect; the message says why."""


class CaptureError(PermgraphError):
    """The model cannot be traced by `torch.export`; the message says what to change."""


class SpecMismatchError(PermgraphError):
    """A state dict, a model or a permutation does not fit the specification; names and shapes of both sides."""


class CalibrationError(PermgraphError):
    """The calibration data is empty, unreadable, not finite, constant, or too short for a group."""


class VerificationError(PermgraphError):
    """A group changed the function of the model; the message names it."""


class CheckpointError(PermgraphError):
    """A checkpoint or an output folder is unreadable, truncated, unsafe, or in the way."""


class NonFiniteError(CheckpointError):
    """Weights are NaN or infinite, in a file or in a model; the message names the tensors."""


class OptionError(PermgraphError, ValueError):
    """An argument has a value that is not among those it can have; the message lists them."""


class RankError(PermgraphError):
    """A process of a torch.distributed group is lost, failed, or was given something else than the others."""


class AdapterError(PermgraphError):
    """An adapter is missing, clashes with another, or cannot represent this configuration."""


class RuleError(PermgraphError):
    """The rule of an operation fails; the message names the rule, the operation and the file."""


class PluginError(PermgraphError):
    """What an installed package adds cannot be loaded, or has a name that another one has too."""


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


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def reason(error: BaseException) -> str:
    """What another library or the system said, on one line and without a full stop, to be part of a message."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split()).rstrip(".")


def described(error: BaseException) -> str:
    """The same behind the name of the exception, for code that may raise anything."""
    return f"{type(error).__name__}: {reason(error)}"
