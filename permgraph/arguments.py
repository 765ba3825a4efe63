"""The types of the arguments of public functions, once for each name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ParamSpec, TypeVar

from permgraph.errors import OptionError
from permgraph.wording import shortened

P = ParamSpec("P")
R = TypeVar("R")
Check = tuple[Callable[[Any], bool], str]


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and int(value) >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _has(*names: str) -> Callable[[Any], bool]:
    """Whether a value, and not its class, has these attributes; for classes of higher floors."""
    return lambda value: not isinstance(value, type) and all(hasattr(value, name) for name in names)


def _tensors(value: Any) -> bool:
    return _mapping(value) and all(map(_has("detach", "shape"), value.values()))


def _texts(value: Any) -> bool:
    return _text(value) or (isinstance(value, Collection) and all(map(_text, value)))


def _seed(value: Any) -> bool:
    return _whole(value) and int(value) < 2**63


TEXT: Check = (_text, "a text")
WHOLE: Check = (_whole, "a whole number from 0 up")
NUMBER: Check = (lambda value: isinstance(value, Real), "a number")
CALLED: Check = (callable, "a function")
YES_OR_NO: Check = (lambda value: isinstance(value, bool), "True or False")
STATE: Check = (_mapping, "a state dict")

CHECKS: Mapping[str, Check] = {
    "alignment": (_has("permutations", "spec"), "what align() returned"),
    "at": TEXT,
    "at_least": WHOLE,
    "batch_size": WHOLE,
    "device": (_has("type", "index"), "a torch.device"),
    "effort": (_has("hurried_above", "averaged_above"), "how much a search does"),
    "folder": (lambda value: isinstance(value, str | PathLike), "a path"),
    "force": YES_OR_NO,
    "group": (lambda value: isinstance(value, str | Mapping) or _has("table_shape")(value), "the name of a group"),
    "groups": (_texts, "roles or names of groups"),
    "heads": TEXT,
    "judge": CALLED,
    "kinds": TEXT,
    "kwargs": (_mapping, "a dict of keyword inputs"),
    "length": WHOLE,
    "like": (
        lambda value: any(_has(name)(value) for name in ("state_dict", "stored")),
        "a model, or what load() returned",
    ),
    "limit": WHOLE,
    "loss": (lambda value: _text(value) or callable(value), "the name of a loss, or a function"),
    "method": TEXT,
    "max_shard_size": TEXT,
    "mix": NUMBER,
    "models": (lambda value: isinstance(value, Sequence) and not _text(value) and bool(value), "a list of models"),
    "most": WHOLE,
    "name": TEXT,
    "outputs": TEXT,
    "path": (lambda value: isinstance(value, str | PathLike) or _has("write")(value), "a path"),
    "permutations": (
        lambda value: isinstance(value, Mapping | Sequence) and not _text(value),
        "an element, or a list of them",
    ),
    "point_weights": (_mapping, "a dict from roles or names of groups to weights"),
    "progress": CALLED,
    "rate": NUMBER,
    "remove": (_mapping, "a dict from names of groups to units"),
    "read": YES_OR_NO,
    "rounds": WHOLE,
    "samples": WHOLE,
    "seed": (_seed, "a whole number from 0 up, below 2**63"),
    "spec": (_has("groups", "layouts"), "a specification, as derive() returns it"),
    "start": (lambda value: _mapping(value) or _has("permutations")(value), "an alignment, or an element of the group"),
    "state_dict": STATE,
    "steps": WHOLE,
    "tensors": (_tensors, "a dict of tensors by the model's names"),
    "trials": (lambda value: isinstance(value, Integral), "a whole number"),
    "untie": YES_OR_NO,
    "units": (lambda value: isinstance(value, Iterable | Mapping), "units, or their numbers"),
    "vector": (_has("detach", "shape"), "a tensor"),
    "weight": (lambda value: isinstance(value, Real | str | Mapping), "a number, a text, or a dict of numbers"),
    "what": TEXT,
    "within": (_has("room", "in_step"), "a limit on memory"),
}


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which raises OptionError for an argument of a type that its name does not allow.

    The default of an argument is always allowed, and so is what `CHECKS` does not name.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in [*zip(signature.parameters, args, strict=False), *kwargs.items()]:
            require_type(name, value, signature)
        return function(*args, **kwargs)

    return run


def require_type(name: str, value: Any, signature: inspect.Signature) -> None:
    """Raise OptionError for an argument of a type that its name does not allow; see `typed`."""
    known = signature.parameters.get(name)
    if name not in CHECKS or known is None or value is known.default:
        return
    is_allowed, what = CHECKS[name]
    if not is_allowed(value):
        raise OptionError(f"{name} is {what}, not {shortened(repr(value), 80)}")
