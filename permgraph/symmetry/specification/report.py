"""A specification as text: one screen for any depth, with similar layers in one line."""

from __future__ import annotations

import re
from html import escape
from math import prod

from permgraph.symmetry.elements.folded_names import fold, pattern_of
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.elements.report import counted
from permgraph.symmetry.specification.spec import PermutationSpec

MOST_PINS = 6


def rows(spec: PermutationSpec) -> list[tuple[str, str, str, str, str]]:
    """(name, role, group, how many such groups, axes in each), folded."""
    kinds: dict[tuple[object, ...], list[PermutationGroup]] = {}
    for group in spec.groups:
        key = (
            re.sub(r"\d+", "#", group.name),
            group.size,
            group.depends_sizes,
            group.role,
            group.symbol,
            len(group.axes),
        )
        kinds.setdefault(key, []).append(group)
    return [
        (
            pattern_of([group.name for group in members]),
            members[0].role,
            members[0].symbol,
            f"{len(members)}",
            f"{len(members[0].axes)}",
        )
        for members in kinds.values()
    ]


def headline(spec: PermutationSpec) -> str:
    """One line: groups, order, coverage."""
    total = sum(prod(spec.shapes[name]) for name in spec.parameters)
    return (
        f"{counted(len(spec.groups), 'group')}, log10|G| = {spec.log10_order:.1f}, "
        f"moving {spec.coverage:.1%} of {total:,} parameter elements"
    )


def summary(spec: PermutationSpec) -> str:
    """The whole specification on one screen."""
    table = [("group", "role", "symmetry", "groups", "axes"), *rows(spec)]
    widths = [max(len(row[k]) for row in table) for k in range(5)]
    lines = [headline(spec)]
    if spec.groups:
        drawn = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
        lines += ["", *(f"  {line}".rstrip() for line in drawn)]
    for why, axes in pinned_axes(spec).items():
        lines += ["", f"pinned, {why}:", *(f"  {axis}" for axis in axes[:MOST_PINS])]
        lines += [f"  and {len(axes) - MOST_PINS} more"] * (len(axes) > MOST_PINS)
    if spec.left_alone:
        lines += ["", f"not reached by the forward pass: {', '.join(name for name, _ in fold(spec.left_alone))}"]
    if spec.shifts:
        names = [name for name, _ in fold(shift.tensor for shift in spec.shifts)]
        count = sum(shift.dimension for shift in spec.shifts)
        lines += [
            "",
            f"in addition to the groups, {count:,} numbers may be added (`spec.shifts`) to {', '.join(names)}",
        ]
    if spec.unread:
        lines += ["", f"not read by the forward pass at these shapes: {', '.join(parts_unread(spec))}"]
    return "\n".join(lines)


def parts_unread(spec: PermutationSpec) -> list[str]:
    """The parts of parameters that the forward pass does not read, equal layers folded."""
    return [pattern for pattern, _ in fold(part for name in spec.unread for part in spec.parts_unread(name))]


def pinned_axes(spec: PermutationSpec) -> dict[str, list[str]]:
    """Reason -> the axes that it pins, equal layers folded."""
    found: dict[str, list[str]] = {}
    for (name, dim), why in spec.pinned.items():
        found.setdefault(why.rpartition(": ")[2], []).append(f"{name}[{dim}]")
    return {why: [pattern for pattern, _ in fold(axes)] for why, axes in found.items()}


def html_table(spec: PermutationSpec) -> str:
    """The groups, what is pinned and why, and how much moves, as HTML for notebooks."""
    head = "".join(f"<th>{name}</th>" for name in ("group", "role", "symmetry", "groups", "axes"))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows(spec))
    bar = (
        '<div style="height:6px;max-width:40em;border-radius:3px;background:rgba(128,128,128,.25)">'
        f'<div style="height:6px;width:{spec.coverage:.2%};border-radius:3px;background:#2f86b5"></div></div>'
    )
    pins = "".join(
        f"<li>{escape(why)}: <code>{escape(', '.join(axes[:MOST_PINS]))}</code>"
        + (f" and {len(axes) - MOST_PINS} more</li>" if len(axes) > MOST_PINS else "</li>")
        for why, axes in pinned_axes(spec).items()
    )
    return f"<p>{escape(headline(spec))}</p>{bar}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" + (
        f"<details><summary>what is pinned, and why</summary><ul>{pins}</ul></details>" if pins else ""
    )


def _cell(text: str) -> str:
    return f'<td style="text-align:left">{escape(text)}</td>'
