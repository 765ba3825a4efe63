"""Rules of other packages: modules that register them when they are imported.

    [project.entry-points."permgraph.rules"]
    mine = "my_package.rules"

The module decorates its rules with `permgraph.rules.rule`, as the files in this folder do. All are imported before the
first trace. One that cannot be imported does not stop it: its operations then have no rule, and pin what they touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from permgraph.errors import PluginError
from permgraph.plugins import plugins
from permgraph.rules.registry import RULES

GROUP = "permgraph.rules"


@dataclass(frozen=True)
class InstalledRules:
    """The operations that an installed module has rules for; `problem` says why it could not be imported."""

    name: str
    distribution: str
    operations: tuple[str, ...]
    problem: str = ""


@cache
def installed_rules() -> tuple[InstalledRules, ...]:
    """Every module of rules that an installed distribution adds, imported once."""
    found = []
    for plugin in plugins(GROUP):
        before, problem = set(RULES), ""
        try:
            plugin.load()
        except PluginError as error:
            problem = str(error)
        found.append(InstalledRules(plugin.name, plugin.distribution, tuple(sorted(set(RULES) - before)), problem))
    return tuple(found)


def problems() -> str:
    """A remark for "there is no rule": the modules that could not be imported, which might have it."""
    return "".join(f"; rules {found.problem}" for found in installed_rules() if found.problem)
