"""Why an axis moves, why it is pinned, and why two axes move together: paths in the tie graph, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import networkx as nx

from permgraph.algebra.reading import runs_of, written
from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

Axis = tuple[str, int]
MOST_REASONS = 6


@dataclass(frozen=True)
class Step:
    """One tie on the way: the axis it leads to, and the operation that makes it."""

    tensor: str
    dim: int
    op: str
    module: str
    line: str

    def __str__(self) -> str:
        place = f" in {self.module}" if self.module else ""
        return f"{self.tensor}[{self.dim}]  by {self.op}{place}" + (f" ({self.line})" if self.line else "")


@dataclass(frozen=True)
class Explanation:
    """What is known of an axis, or of a pair.

    Attributes:
        axis: (parameter, dim).
        other: the second axis, or None.
        verdict: "moves", "pinned", "partly" or "unreached"; for a pair "together" or "apart".
        groups: the groups that act on the axis; for a pair, on both.
        chain: the ties from the axis to the pin, or to the other axis.
        text: all of it for people.

    """

    axis: Axis
    other: Axis | None
    verdict: str
    groups: tuple[str, ...]
    chain: tuple[Step, ...]
    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"


def explain(spec: PermutationSpec, axis: Axis, other: Axis | None = None) -> Explanation:
    """Explain one axis, or why two move together; (name, dim) or "name:dim", by the whole name or a unique end of it.

    Raises SpecMismatchError for an axis that the model does not have.
    """
    axis = _axis(spec, axis)
    other = None if other is None else _axis(spec, other)
    for given in (axis,) if other is None else (axis, other):
        _require(spec, given)
    return _explain_one(spec, axis) if other is None else _explain_pair(spec, axis, other)


def _axis(spec: PermutationSpec, given: Any) -> Axis:
    """(parameter, dimension), also from "parameter:dimension", and from the end of a name that no other has."""
    if isinstance(given, str) and given.rpartition(":")[2].isdigit():
        name, _, dim = given.rpartition(":")
        given = name, int(dim)
    if isinstance(given, tuple) and len(given) == 2 and given[0] not in spec.shapes:
        ends = [name for name in spec.shapes if name.endswith(f".{given[0]}")]
        given = (ends[0], given[1]) if len(ends) == 1 else given
    axis: Axis = given
    return axis


def _require(spec: PermutationSpec, axis: Axis) -> None:
    if not (isinstance(axis, tuple) and [*map(type, axis)] == [str, int]):
        raise SpecMismatchError(f"an axis is a tuple (parameter name, dimension), not {axis!r}")
    name, dim = axis
    shape = spec.shape_of(name)
    if not 0 <= dim < len(shape):
        raise SpecMismatchError(
            f"{name} has shape {shape}: there is no dimension {dim}; give one of {[*range(len(shape))]}"
        )


def _label(axis: Axis) -> str:
    return f"{axis[0]}[{axis[1]}]"


def _acting(spec: PermutationSpec, axis: Axis) -> list[PermutationGroup]:
    return [group for group in spec.groups if axis in group.axes]


def _explain_one(spec: PermutationSpec, axis: Axis) -> Explanation:
    name, dim = axis
    groups = _acting(spec, axis)
    size = spec.shapes[name][dim]
    if name not in spec.layouts or name in spec.left_alone:
        text = f"{_label(axis)} is not reached by the forward pass and stays as it is; `tie` can join it to an axis"
        return Explanation(axis, None, "unreached", (), (), text)
    lines = [f"{_label(axis)}, {size} units"]
    for group in groups:
        here = f"  moves by {_describe(group)}{_where(spec, axis, group)}"
        lines += [here, *_dependence(spec, group), *_limits(spec, group)]
    chain: tuple[Step, ...] = ()
    pin = _nearest_pin(spec, axis)
    if pin is not None:
        reason, chain = pin
        lines.append(f"  pinned{' in part' if groups else ''}: {reason}")
        lines += [f"    {step}" for step in chain]
    elif not groups:
        lines.append(f"  pinned: {spec.pinned.get(axis, 'it has a single unit')}")
    lines += [f"  not read by the forward pass at these shapes: {part}" for part in spec.parts_unread(name)]
    verdict = "partly" if groups and pin else "moves" if groups else "pinned"
    return Explanation(axis, None, verdict, tuple(group.name for group in groups), chain, "\n".join(lines))


def _describe(group: PermutationGroup) -> str:
    return f"{group.name}: {group.symbol}, on {len(group.axes)} axes, role {group.role}"


def _where(spec: PermutationSpec, axis: Axis, group: PermutationGroup) -> str:
    """The positions that the group acts on, if these are not all."""
    name, dim = axis
    size, positions = spec.shapes[name][dim], spec.layouts[name].positions_of(group.name, dim)
    return f", at {written((size,), (runs_of(positions),))}" if 0 < len(positions) < size else ""


def _dependence(spec: PermutationSpec, group: PermutationGroup) -> list[str]:
    if not group.depends_on:
        return []
    change = group.facts.alone if group.size == 1 else group.facts.change
    lower = ", ".join(group.depends_on)
    return [
        f"    a different {change} for every index of {lower}: these units occur in no",
        "    tensor and no operation without that index, so this is a change of variables",
    ]


def _limits(spec: PermutationSpec, group: PermutationGroup) -> list[str]:
    """Why the group has no larger kind, where kinds were asked for."""
    reasons = spec.limits.get(group.name, ())
    if not reasons:
        return []
    lines = [
        f"    no more than {group.facts.allowed}, for:",
        *(f"      {reason}" for reason in reasons[:MOST_REASONS]),
    ]
    if len(reasons) > MOST_REASONS:
        lines.append(f"      and {len(reasons) - MOST_REASONS} more")
    if any(reason.endswith(f" by {name}") for reason in reasons for name in spec.parameters):
        lines.append("      `fold` moves the weight of a norm into what reads it, where all of that can take it")
    return lines


def _nearest_pin(spec: PermutationSpec, axis: Axis) -> tuple[str, tuple[Step, ...]] | None:
    graph = spec.graph
    for start in spec.ties.at(axis):
        if spec.ties.nodes[start].group:
            continue
        distances = nx.single_source_shortest_path(graph, start)
        for target, path in sorted(distances.items(), key=lambda item: (len(item[1]), item[0])):
            if graph.nodes[target]["pinned"]:
                return graph.nodes[target]["pinned"], _steps(graph, path)
    return None


def _steps(graph: nx.Graph, path: Sequence[int]) -> tuple[Step, ...]:
    steps = []
    for a, b in pairwise(path):
        edge, node = graph.edges[a, b], graph.nodes[b]
        steps.append(Step(node["tensor"], node["dim"], edge["op"], edge["module"], edge["line"]))
    return tuple(steps)


def _explain_pair(spec: PermutationSpec, axis: Axis, other: Axis) -> Explanation:
    shared = [group.name for group in _acting(spec, axis) if other in group.axes]
    if not shared:
        mine, theirs = ([g.name for g in _acting(spec, a)] for a in (axis, other))
        text = (
            f"{_label(axis)} and {_label(other)} do not move together: the first moves by {_list(mine)}, "
            f"the second by {_list(theirs)}"
        )
        return Explanation(axis, other, "apart", (), (), text)
    lines = [f"{_label(axis)} and {_label(other)} move together by {_list(shared)}"]
    first: tuple[Step, ...] = ()
    for name in shared:
        chain = _chain(spec, axis, other, name)
        first = first or chain
        lines += [f"  {name}:", f"    {_label(axis)}", *(f"    {step}" for step in chain)]
    return Explanation(axis, other, "together", tuple(shared), first, "\n".join(lines))


def _chain(spec: PermutationSpec, axis: Axis, other: Axis, group: str) -> tuple[Step, ...]:
    starts, ends = ([k for k in spec.ties.at(a) if spec.ties.nodes[k].group == group] for a in (axis, other))
    best: Sequence[int] | None = None
    for start in starts:
        reach = nx.single_source_shortest_path(spec.graph, start)
        for end in ends:
            if end in reach and (best is None or len(reach[end]) < len(best)):
                best = reach[end]
    return _steps(spec.graph, best) if best else ()


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
