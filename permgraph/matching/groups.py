"""Selects groups of a specification by name or role, and checks that a specification belongs to a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec


def select(spec: PermutationSpec, wanted: Sequence[str] | str | None) -> list[PermutationGroup]:
    """The groups of the given name or names or roles; a role also covers roles below it, as "attention" does
    "attention.heads".
    """
    if wanted is None:
        return list(spec.groups)
    wanted = [wanted] if isinstance(wanted, str) else wanted
    unknown = [w for w in wanted if not any(_covers(w, group) for group in spec.groups)]
    if unknown:
        roles = sorted({group.role for group in spec.groups})
        raise SpecMismatchError(f"no group has the name or role {', '.join(unknown)}; the roles are {', '.join(roles)}")
    return [group for group in spec.groups if any(_covers(w, group) for w in wanted)]


def _covers(wanted: str, group: PermutationGroup) -> bool:
    return wanted in (group.name, group.role) or group.role.startswith(f"{wanted}.")


def covering(spec: PermutationSpec) -> Callable[[str, str], bool]:
    """A function (wanted, name): whether a name or role covers the group called `name`; never for a pinned factor."""
    groups = {group.name: group for group in spec.groups}
    return lambda wanted, name: name in groups and _covers(wanted, groups[name])


def pinned_sizes(spec: PermutationSpec) -> dict[str, int]:
    """Sizes of everything that some group depends on."""
    return {name: size for g in spec.groups for name, size in zip(g.depends_on, g.depends_sizes, strict=True)}


def require_shapes(spec: PermutationSpec, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise SpecMismatchError unless `spec` is of a model with these shapes."""
    _require_equal(dict(spec.shapes), dict(shapes))


def require_groups(spec: PermutationSpec, derived: PermutationSpec) -> None:
    """Raise SpecMismatchError unless the groups of `spec` are those that were derived."""
    there, here = ({g.name: (g.size, g.depends_on) for g in s.groups} for s in (spec, derived))
    _require_equal(there, here)


def _require_equal(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for name in dict.fromkeys([*there, *here]):
        if there.get(name) != here.get(name):
            raise SpecMismatchError(
                f"the specification does not fit this model: {name} is {there.get(name)} there and {here.get(name)} "
                "here; derive it again"
            )
