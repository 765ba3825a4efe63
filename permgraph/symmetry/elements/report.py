"""Elements of a group in words: how much of each group they move, equal layers folded into one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.parts import index_of, moved

if TYPE_CHECKING:
    from permgraph.symmetry.elements.permutations import Permutations

MOST_ROWS = 20
"""Of a table for people; what follows is counted."""


def moved_share(element: Mapping[str, Any], names: Iterable[str]) -> float:
    """The share of the units of these groups that an element moves."""
    sizes = {name: index_of(element[name]).size for name in names}
    return sum(moved(element[name]) * size for name, size in sizes.items()) / (sum(sizes.values()) or 1)


def counted(count: int, name: str) -> str:
    """`count` with the name of what is counted, in the plural but for one."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def headline(element: Permutations) -> str:
    """One line: groups, units, and how many of them move."""
    units = sum(index_of(part).size for part in element.values())
    return f"{counted(len(element), 'group')}, {moved_share(element, element):.1%} of {counted(units, 'unit')} moved"


def rows(element: Permutations) -> list[tuple[str, str, str]]:
    """(groups, units, share of them that moves), equal layers folded."""
    return [
        (pattern, f"{sum(index_of(element[name]).size for name in names):,}", f"{moved_share(element, names):.1%}")
        for pattern, names in fold(element)
    ]


def text_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns of words, the first to the left and all others to the right; at most MOST_ROWS rows."""
    table = [head, *body[:MOST_ROWS]]
    widths = [max(len(row[k]) for row in table) for k in range(len(head))]
    lines = [
        "  " + "  ".join(cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in enumerate(cells))
        for cells in ([*zip(row, widths, strict=True)] for row in table)
    ]
    return "\n".join([*lines, *([f"  and {len(body) - MOST_ROWS} more"] if len(body) > MOST_ROWS else [])])


def html_table(headline: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """The same for notebooks, with a line above it."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body[:MOST_ROWS])
    more = f"<p>and {len(body) - MOST_ROWS} more</p>" if len(body) > MOST_ROWS else ""
    return f"<p>{escape(headline)}</p><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table>{more}"


HEAD = ("group", "units", "moved")


def text(element: Permutations) -> str:
    """An element on one screen."""
    return f"{headline(element)}\n\n{text_table(HEAD, rows(element))}"


def html(element: Permutations) -> str:
    """An element for notebooks."""
    return html_table(headline(element), HEAD, rows(element))
