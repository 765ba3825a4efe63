"""`report.html` of more than two models: how much of each was moved, group by group, and what was left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import mean

from permgraph.matching.gains import Gain
from permgraph.pages.page import page
from permgraph.pages.report import SCRIPTS, STYLES
from permgraph.pages.sections import breaking, data_table, head, made, section, still
from permgraph.symmetry.elements.folded_names import fold
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.elements.report import moved_share
from permgraph.symmetry.proof.verification import Certificate
from permgraph.symmetry.specification.spec import PermutationSpec


def many_page(
    spec: PermutationSpec,
    elements: Mapping[str, Permutations],
    groups: Sequence[str],
    certificate: Certificate,
    title: str,
    what: str,
    *,
    gains: Mapping[str, Mapping[str, Gain]] | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """The report of models moved into the space of the first; `elements` has the others, by name.

    `groups` are those that were matched; `certificate` is the worst of all models; `gains` are those of the others, by
    name; `facts` as in `report_page`.
    """
    stats = [
        (f"{1 + len(elements)}", "models in one space"),
        (f"{len(groups)} of {len(spec.groups)}", "groups matched"),
    ]
    sections = [
        head(title, what, stats, certificate, facts or {}),
        section("Units moved to the places of the first model", _moved_table(spec, elements, groups)),
        _gains(gains or {}),
        still(spec, groups, list(elements.values())),
        made(facts or {}),
    ]
    return page(f"{title} · permgraph", "".join(sections), styles=STYLES, scripts=SCRIPTS)


def _gains(gains: Mapping[str, Mapping[str, Gain]]) -> str:
    """Each model's groups against the mean of all others, as shares of their bounds: unmoved, and moved."""
    columns = [("group", False), *((name, True) for name in gains)]
    rows = []
    for pattern, names in fold(next(iter(gains.values()), {})):
        cells = "".join(f'<td class="number">{_change([own[name] for name in names])}</td>' for own in gains.values())
        rows.append(f"<tr><td>{breaking(pattern)}</td>{cells}</tr>")
    unit = "Compared with the mean of all other models, as a share of the upper bound: unmoved → moved."
    return section("Gains", f'<p class="quiet">{unit}</p>{data_table(columns, rows)}') if rows else ""


def _change(gains: Sequence[Gain]) -> str:
    before, after = (mean(getattr(g, end) / (g.bound or 1.0) for g in gains) for end in ("identity", "solution"))
    return f"{before:.3f} → {after:.3f}"


def _moved_table(spec: PermutationSpec, elements: Mapping[str, Permutations], groups: Sequence[str]) -> str:
    columns = [*((name, False) for name in ("group", "role", "symmetry")), *((name, True) for name in elements)]
    rows = []
    for pattern, names in fold(groups):
        group = spec[names[0]]
        shares = "".join(f'<td class="number">{moved_share(one, names):.1%}</td>' for one in elements.values())
        words = f"<td>{breaking(pattern)}</td><td>{escape(group.role)}</td><td>{escape(group.symbol)}</td>"
        rows.append(f"<tr>{words}{shares}</tr>")
    return data_table(columns, rows, wide=(1, 2))
