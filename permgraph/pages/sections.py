"""What the reports share: a heading with figures and certificate, sections, lists, and the origin of the output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.verification import Certificate
from permgraph.symmetry.specification.report import parts_unread, pinned_axes
from permgraph.symmetry.specification.spec import PermutationSpec

MODEL = "model "
"""The beginning of the names of facts on models, as in `model A`."""


def head(
    title: str, what: str, stats: Sequence[tuple[str, str]], certificate: Certificate, facts: Mapping[str, str]
) -> str:
    """Title, one sentence, the models by name, figures as (value, name), and the proof."""
    models = "".join(
        f"<span><b>{escape(name.removeprefix(MODEL))}</b> {escape(value)}</span>"
        for name, value in facts.items()
        if name.startswith(MODEL)
    )
    shown = [*stats, (f"{certificate.max_error:.1e}", f"largest relative error, {certificate.tolerance:.0e} allowed")]
    figures = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for value, name in shown)
    verdict = "ok" if certificate.ok else "failed"
    return (
        f'<header><div class="title"><h1>{escape(title)}</h1><p class="brand">permgraph report</p></div>'
        f'<p>{escape(what)}</p>{models and f"<p class=models>{models}</p>"}<dl class="stats">{figures}</dl>'
        f'<p class="certificate {verdict}"><b>Certificate</b> {escape(str(certificate))}</p></header>'
    )


def data_table(columns: Sequence[tuple[str, bool]], rows: Iterable[str], *, wide: Iterable[int] = ()) -> str:
    """A table that sorts by its columns and scrolls where it is too wide: (name, whether it holds numbers) each.

    The columns with the numbers in `wide`, 1 or 2, are left out on narrow screens.
    """
    names = "".join(
        f'<th scope="col"{" class=number" if number else ""}>{escape(name)}</th>' for name, number in columns
    )
    body = f"<thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody>"
    kind = " ".join(["sortable", *(f"wide-{k}" for k in wide)])
    return f'<div class="scroll"><table class="{kind}">{body}</table></div>'


def breaking(name: str) -> str:
    """The name, which may go to a new line after each of its dots."""
    return escape(name).replace(".", ".<wbr>")


def section(title: str, *parts: str) -> str:
    """A part of the page under a heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def still(spec: PermutationSpec, matched: Iterable[str], elements: Sequence[Permutations]) -> str:
    """Groups that were excluded, groups whose part is the identity in all elements, and axes that nothing moves."""
    matched = list(matched)
    left = [group.name for group in spec.groups if group.name not in matched]
    stayed = [name for name in matched if not any(element.moved[name] for element in elements)]
    parts = [
        *_list("not among the groups to move", [p for p, _ in fold(left)]),
        *_list("matched, and best at the identity", [p for p, _ in fold(stayed)]),
    ]
    for why, axes in pinned_axes(spec).items():
        parts += _list(f"pinned: {why}", axes)
    parts += _list("not reached by the forward pass", [p for p, _ in fold(spec.left_alone)])
    parts += _list("not read by the forward pass at these shapes", parts_unread(spec))
    return section("What stayed at the identity", *(parts or ['<p class="quiet">Nothing did.</p>']))


def _list(title: str, names: Sequence[str]) -> list[str]:
    items = "".join(f"<li>{escape(name)}</li>" for name in names)
    return [f'<h3>{escape(title)}</h3><ul class="names">{items}</ul>'] if names else []


def made(facts: Mapping[str, str]) -> str:
    """Inputs, command and versions, as given."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return section("How it was made", f'<dl class="facts">{rows}</dl>') if rows else ""
