"""Names of groups: the module that holds a group's parameters, and what the group is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from permgraph.algebra.cells import Occurrence
from permgraph.symmetry.derivation.bundles import Bundle, Bundles
from permgraph.symmetry.derivation.roles import roles

SUFFIX = {
    "residual": "residual",
    "attention.heads": "heads",
    "attention.qk": "qk",
    "attention.vo": "vo",
    "experts": "experts",
    "recurrent": "units",
    "feed_forward": "hidden",
    "conv": "channels",
    "other": "units",
}


def roles_of(bundles: Bundles) -> dict[Bundle, str]:
    """Bundle -> what it is for; of several roles of its classes the first in `SUFFIX`."""
    given = roles(bundles.trace, bundles.resolution)
    order = list(SUFFIX)
    return {
        bundle: min((given.get(kind, "other") for kind in bundle.classes), key=order.index) for bundle in bundles.all
    }


def names_of(bundles: Bundles, role: Mapping[Bundle, str]) -> dict[Bundle, str]:
    """Bundle -> name; pinned ones are named after the first parameter axis they are on.

    A group has the name of the module that all its parameters share, or, where two groups would have that, of the one
    that writes it.
    """
    places = {bundle: bundles.occurrences(bundle) for bundle in bundles.all}
    wanted = {bundle: _name(bundle, role, places[bundle], shared=True) for bundle in bundles.all}
    common = Counter(wanted.values())
    chosen = [
        name if common[name] == 1 else _name(bundle, role, places[bundle], shared=False)
        for bundle, name in wanted.items()
    ]
    return dict(zip(wanted, distinct(chosen), strict=True))


def _name(bundle: Bundle, role: Mapping[Bundle, str], places: Sequence[Occurrence], *, shared: bool) -> str:
    if not bundle.free:
        return f"pinned:{places[0].tensor}[{places[0].dim}]"
    inner = any(role[lower] == role[bundle] and lower.free for lower in bundle.depends_on)
    return prefixed(places, role[bundle], shared=shared) + (".within" if inner else "")


def prefixed(places: Sequence[Occurrence], role: str, *, shared: bool) -> str:
    """The word for a role after the module that all these places share, or after the first that writes them."""
    return _module(places, role, shared=shared) + SUFFIX[role]


def _module(places: Sequence[Occurrence], role: str, *, shared: bool) -> str:
    modules = [place.tensor.rpartition(".")[0] for place in places]
    if shared and role == "residual":
        return ""
    if shared and role not in ("conv", "other"):
        levels = zip(*(module.split(".") for module in modules), strict=False)
        common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
        return ".".join([*common, ""]) if common else ""
    writers = [module for module, place in zip(modules, places, strict=True) if place.dim == 0] or modules
    return f"{writers[0]}." if writers[0] else ""


def distinct(names: Iterable[str]) -> list[str]:
    """The names in order, with #2, #3, … where a name was given before."""
    taken: Counter[str] = Counter()
    numbered = []
    for name in names:
        taken[name] += 1
        numbered.append(name if taken[name] == 1 else f"{name}#{taken[name]}")
    return numbered
