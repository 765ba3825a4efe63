"""Functions found by name: those of this package, and those that installed distributions add.

A distribution adds one by an entry point, whose name is the function's name on the command line:

    [project.entry-points."permgraph.merges"]
    ties = "my_package.merging:ties"

The groups are `permgraph.adapters` (model families), `permgraph.rules` (operations), `permgraph.matchers` and
`permgraph.merges`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from permgraph.arguments import require_type
from permgraph.errors import OptionError, PluginError
from permgraph.wording import described

F = TypeVar("F", bound=Callable[..., Any])
OWN = "permgraph"


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed distribution."""

    name: str
    distribution: str
    point: EntryPoint

    def load(self) -> Any:
        """What the entry point names. Raises PluginError for whatever its import raises."""
        try:
            return self.point.load()
        except Exception as error:  # whatever a third party's module raises on import
            raise PluginError(
                f"{self.name!r} of {self.distribution} cannot be loaded: {described(error)}. "
                "Repair or uninstall that package."
            ) from error


def plugins(group: str) -> tuple[Plugin, ...]:
    """The entry points of a group, by distribution and name; none of them is loaded."""
    # An editable install and its leftovers can list the same entry point twice.
    points = {(_distribution(point), point.name, point.value): point for point in entry_points(group=group)}
    found = (Plugin(name, distribution, point) for (distribution, name, _), point in points.items())
    return tuple(sorted(found, key=lambda one: (one.distribution, one.name)))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"


@dataclass(frozen=True)
class Registered(Generic[F]):
    """A function with its name.

    Attributes:
        name: what it is called on the command line and in Python.
        function: the function itself.
        reference: the URL or arXiv number of its source.
        needs_data: whether it can do nothing without calibration data.
        most: how many models it takes at most; None for any number.
        distribution: the package that it comes from.

    """

    name: str
    function: F
    reference: str = ""
    needs_data: bool = False
    most: int | None = None
    distribution: str = OWN

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The function's keyword-only parameters, by name."""
        parameters = inspect.signature(self.function).parameters
        return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def require_options(self, given: Mapping[str, Any], reserved: tuple[str, ...] = ()) -> None:
        """Raise OptionError for an option that the function does not have, or one that it cannot do without.

        Those of this package's functions have the types of `permgraph.arguments`.
        """
        known = {name: p for name, p in self.options.items() if name not in reserved}
        parameters = inspect.signature(self.function).parameters.values()
        for name in given if not any(p.kind is p.VAR_KEYWORD for p in parameters) else ():
            if name not in known:
                near = get_close_matches(name, known, 1)
                raise OptionError(
                    f'method "{self.name}" has no option {name}: it has {", ".join(known) or "none"}'
                    + (f"; did you mean {near[0]}?" if near else "; leave it out")
                )
        for name, value in given.items() if self.function.__module__.partition(".")[0] == OWN else ():
            require_type(name, value, inspect.signature(self.function))
        missing = [name for name, p in known.items() if p.default is p.empty and name not in given]
        if missing:
            raise OptionError(f'method "{self.name}" needs the option {", ".join(missing)}: give {missing[0]}=')


@dataclass(frozen=True)
class Installed:
    """What a registry offers under a name: its source, or why it cannot be used."""

    name: str
    distribution: str
    reference: str
    problem: str = ""


class Registry(Mapping[str, Registered[F]]):
    """A table of functions by name, filled by its decorator and by the entry points of one group.

    As a mapping it has what the decorator registered; `find` and `names` also know the entry points.
    """

    def __init__(self, what: str, group: str, *rivals: Registry[Any]) -> None:
        self.what, self.group = what, group
        self._known: dict[str, Registered[F]] = {}
        self._rivals = rivals

    def __getitem__(self, name: str) -> Registered[F]:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __call__(
        self, name: str, *, reference: str = "", needs_data: bool = False, most: int | None = None
    ) -> Callable[[F], F]:
        """A decorator that registers a function. ValueError where the name is taken."""

        def register(function: F) -> F:
            if any(name in table for table in (self, *self._rivals)):
                raise ValueError(f"there is a {self.what} {name!r} already")
            self._known[name] = Registered(name, function, reference, needs_data, most)
            return function

        return register

    def names(self) -> tuple[str, ...]:
        """The names of this package's functions, then of those that entry points add; nothing is imported."""
        return tuple(dict.fromkeys([*self._known, *(plugin.name for plugin in plugins(self.group))]))

    def find(self, name: str) -> Registered[F] | None:
        """The function of this name, None where there is none.

        Raises PluginError where an entry point cannot be loaded, or two distributions have one of this name.
        """
        if name in self._known:
            return self._known[name]
        claims = [plugin for plugin in plugins(self.group) if plugin.name == name]
        if len(claims) > 1:
            raise PluginError(
                f"the {self.what} {name!r} comes from {' and '.join(plugin.distribution for plugin in claims)}. "
                "It is not clear which to use: uninstall all but one."
            )
        return self._load(claims[0]) if claims else None

    def installed(self) -> Iterator[Installed]:
        """What each entry point gives; all are loaded."""
        for plugin in plugins(self.group):
            try:
                found = self.find(plugin.name)
            except PluginError as error:
                yield Installed(plugin.name, plugin.distribution, "", str(error))
                continue
            if found is None or found.distribution != plugin.distribution:
                yield Installed(plugin.name, plugin.distribution, "", f"{OWN} has a {self.what} of this name")
            else:
                yield Installed(found.name, found.distribution, found.reference)

    def _load(self, plugin: Plugin) -> Registered[F]:
        function = plugin.load()
        if not callable(function):
            raise PluginError(
                f"{plugin.name!r} of {plugin.distribution} is a {type(function).__name__}, not a function: "
                f"name a function under the entry points {self.group}"
            )
        known = next((one for one in self._known.values() if one.function is function), None)
        found = known or Registered(plugin.name, function, _reference(function))
        self._known[plugin.name] = replace(found, name=plugin.name, distribution=plugin.distribution)
        return self._known[plugin.name]


def _reference(function: Any) -> str:
    """The first line of the docstring, which says what the function is."""
    return next(iter((inspect.getdoc(function) or "").splitlines()), "")
