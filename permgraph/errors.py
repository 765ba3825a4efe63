"""Every error a user can meet; each message says what is wrong, where, and what to do."""


class PermgraphError(Exception):
    """Base of every error that permgraph raises on purpose.

    A program that wants to survive bad input catches this one. Anything else that escapes is a bug in permgraph.
    """


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


class OptionError(PermgraphError, ValueError):
    """An argument has a value that is not among those it can have; the message lists them."""


class AdapterError(PermgraphError):
    """An adapter is missing, clashes with another, or cannot represent this configuration."""


def reason(error: BaseException) -> str:
    """What another library or the system said, on one line and without a full stop, to stand within a message."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split()).rstrip(".")


def described(error: BaseException) -> str:
    """The same behind the name of the exception, for code that may raise anything."""
    return f"{type(error).__name__}: {reason(error)}"
