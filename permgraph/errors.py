"""Every error a user can meet; each message says what is wrong, where, and what to do."""

from permgraph.wording import printable, shortened


class PermgraphError(Exception):
    """Base of every error that permgraph raises on purpose.

    A program that wants to survive bad input catches this one. Anything else that escapes is a bug in permgraph. What
    a message quotes of a file cannot steer a terminal: control characters are escaped.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(shortened(str(message))))


class PermgraphWarning(UserWarning):
    """Something that was asked for has no effect, or may not do what is wanted; the message says why."""


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
