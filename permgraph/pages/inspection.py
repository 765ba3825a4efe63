"""`inspect --html`: the blocks of a model with the groups on their axes, and for every axis what ties or pins it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from permgraph.pages.blocks import fold_equal, folded_paths, kind_of, looks_of, module_tree, segments, to_data
from permgraph.pages.colours import HUES
from permgraph.pages.page import packed, page
from permgraph.pages.uses import uses_of
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.specification.report import headline, html_table, parts_unread, pinned_axes
from permgraph.symmetry.specification.spec import PermutationSpec

SCRIPTS = ("graph.js", "drawing.js", "blocks.js", "sorting.js", "tables.js", "inspector.js", "uses.js", "inspection.js")


def inspection_page(spec: PermutationSpec, title: str) -> str:
    """One HTML file that needs no network, of a few hundred kilobytes."""
    plain = f"<noscript><p>This page draws with JavaScript; without it, the groups:</p>{html_table(spec)}</noscript>"
    body = (
        '<header id="head"></header><div id="frame"><main id="main">'
        f'{plain}</main><aside id="side" aria-label="The selected axis"></aside></div>'
        '<p id="said" role="status"></p>'
    )
    return page(
        f"{title} · permgraph",
        body,
        styles=("base.css", "inspection.css"),
        scripts=SCRIPTS,
        data=packed(inspection_data(spec, title)),
    )


def inspection_data(spec: PermutationSpec, title: str) -> dict[str, Any]:
    """All data of the page. Tensors, groups, sources and reasons are indices into their lists."""
    numbers = {group.name: k for k, group in enumerate(spec.groups)}
    names = list(dict.fromkeys([*spec.shapes, *(node.axis[0] for node in spec.ties.nodes)]))
    index = {name: k for k, name in enumerate(names)}
    tree = module_tree(name for name, shape in spec.shapes.items() if shape)
    fold_equal(tree, looks_of(spec))
    return {
        "title": title,
        "headline": headline(spec),
        "outputs": spec.outputs,
        "hues": HUES,
        "log10": round(spec.log10_order, 1),
        "elements": sum(prod(spec.shapes[name]) for name in spec.parameters),
        "coverage": spec.coverage,
        "held": _held(spec),
        "roles": _role_shares(spec),
        "groups": _groups(spec, numbers, folded_paths(tree)),
        "names": names,
        "tensors": [_tensor(spec, name, numbers) for name in spec.shapes],
        "aliases": [[index[key], index[name]] for key, name in spec.ties.aliases.items()],
        "pinned": [[index[name], dim, why] for (name, dim), why in spec.pinned.items()],
        "pins": [{"why": why, "axes": axes} for why, axes in pinned_axes(spec).items()],
        "unreached": [index[name] for name in spec.left_alone],
        "unread": parts_unread(spec),
        "tree": to_data(tree, index),
        "ties": _ties(spec, numbers, index),
        "uses": uses_of(spec, numbers, index, folded_paths(tree)),
    }


def _groups(spec: PermutationSpec, numbers: Mapping[str, int], folded: set[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "size": group.size,
            "count": group.count,
            "symbol": group.symbol_of_one,
            "type": group.kind,
            "role": group.role,
            "on": [
                [name, size, numbers.get(name, -1)]
                for name, size in zip(group.depends_on, group.depends_sizes, strict=True)
            ],
            "log10": round(group.log10_order, 1),
            "kind": kind_of(group.name, folded),
            "axes": len(group.axes),
        }
        for group in spec.groups
    ]


def _tensor(spec: PermutationSpec, name: str, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Shape, segments of each axis, and whether it is a parameter, a buffer, or unreached."""
    layout = spec.layouts.get(name)
    shape = spec.shapes[name]
    kind = "unreached" if name in spec.left_alone or layout is None else "parameter"
    kind = kind if name in spec.parameters else "buffer"
    axes = [] if layout is None else [segments(layout, dim, numbers) for dim in range(len(shape))]
    return {"shape": shape, "kind": kind, "axes": axes}


def _ties(spec: PermutationSpec, numbers: Mapping[str, int], index: Mapping[str, int]) -> dict[str, Any]:
    """The tie graph in columns: nodes (tensor, dim, group), edges (a, b, source), pins (node, reason)."""
    reasons: dict[str, int] = {}
    pins = [[node, reasons.setdefault(why, len(reasons))] for node, why in spec.ties.pins]
    edges = {(a, b): source for a, b, source in reversed(spec.ties.ties)}
    return {
        "tensor": [index[node.axis[0]] for node in spec.ties.nodes],
        "dim": [node.axis[1] for node in spec.ties.nodes],
        "group": [numbers.get(node.group, -1) for node in spec.ties.nodes],
        "a": [a for a, _ in edges],
        "b": [b for _, b in edges],
        "source": list(edges.values()),
        "sources": [[source.op, source.module, source.line] for source in spec.ties.sources],
        "pins": pins,
        "reasons": list(reasons),
    }


def _role_shares(spec: PermutationSpec) -> list[dict[str, Any]]:
    """Role -> its groups, its part of log10 |G|, and the share of the parameter elements that it moves."""
    total = sum(prod(spec.shapes[name]) for name in spec.parameters) or 1
    role = {group.name: group.role for group in spec.groups}
    moved: dict[str, int] = {}
    for layout in _parameter_layouts(spec).values():
        for cell in layout.cells:
            for one in {role[move.group] for move in cell.moves}:
                moved[one] = moved.get(one, 0) + cell.size
    return [
        {
            "role": one,
            "groups": sum(group.role == one for group in spec.groups),
            "log10": round(sum(group.log10_order for group in spec.groups if group.role == one), 1),
            "share": moved.get(one, 0) / total,
        }
        for one in dict.fromkeys(role.values())
    ]


def _held(spec: PermutationSpec) -> list[dict[str, Any]]:
    """Why unmoved parameter elements do not move, with the share of each reason, the largest first."""
    total = sum(prod(spec.shapes[name]) for name in spec.parameters) or 1
    held: dict[str, int] = {}
    for name in spec.parameters:
        layout = spec.layouts.get(name)
        still = prod(spec.shapes[name]) - (0 if layout is None else layout.moved_elements)
        if still:
            why = "the forward pass does not reach it" if layout is None else _why(spec, name)
            held[why] = held.get(why, 0) + still
    ordered = sorted(held.items(), key=lambda item: -item[1])
    return [{"why": why, "share": count / total} for why, count in ordered]


def _why(spec: PermutationSpec, name: str) -> str:
    reasons = [why for dim in range(len(spec.shapes[name])) if (why := spec.pinned.get((name, dim)))]
    return reasons[0].rpartition(": ")[2] if reasons else "a single unit, or cut into single units"


def _parameter_layouts(spec: PermutationSpec) -> dict[str, Layout]:
    return {name: spec.layouts[name] for name in spec.parameters if name in spec.layouts}
