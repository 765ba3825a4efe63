"""Draws the pictures of the concepts page: `python docs/pictures/draw.py` writes the SVG files beside this one."""

from __future__ import annotations

from pathlib import Path

INK, QUIET, FILL = "#59616c", "#8d949e", "#8d949e22"
HUES = ("#3f83d6", "#c97f00", "#2f9e6b", "#c0599a")


def svg(width: int, height: int, *parts: str) -> str:
    """A picture on no background, in colours that hold on light and on dark."""
    style = (
        f"text{{font:13px system-ui,sans-serif;fill:{INK}}}.s{{font-size:11px;fill:{QUIET}}}.m{{text-anchor:middle}}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f"<style>{style}</style>", *parts, "</svg>\n"])


def text(x: float, y: float, words: str, kind: str = "m") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def box(x: float, y: float, w: float, h: float, colour: str = FILL) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{colour}" rx="1.5"/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.5) -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{colour}" stroke-width="{width:g}" opacity="0.75"/>'


def dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="9" fill="{colour}"/>'


def network(x: float, order: tuple[int, ...]) -> list[str]:
    """Two inputs, three hidden units in this order, two outputs; each unit keeps its colour and its wires."""
    ends, hidden = (70, 130), (45, 100, 155)
    parts = []
    for place, unit in enumerate(order):
        for y in ends:
            parts += [
                line(x, y, x + 85, hidden[place], HUES[unit]),
                line(x + 85, hidden[place], x + 170, y, HUES[unit]),
            ]
    parts += [dot(x + 85, hidden[place], HUES[unit]) for place, unit in enumerate(order)]
    return parts + [dot(end, y, QUIET) for end in (x, x + 170) for y in ends]


def symmetry() -> str:
    """The same network with its hidden units in another order."""
    return svg(
        560, 205, *network(40, (0, 1, 2)), *network(350, (2, 0, 1)), text(280, 104, "="),
        text(125, 195, "W₁, W₂"), text(435, 195, "rows of W₁, columns of W₂"),
    )  # fmt: skip


def stripes(
    x: float, y: float, heads: tuple[int, ...], units: tuple[tuple[int, ...], ...], height: float = 92
) -> list[str]:
    """The rows of a projection: a block of four rows a head in the head's colour, each unit a shade of it."""
    parts, row = [], height / 16 - 1
    for place, head in enumerate(heads):
        for k, unit in enumerate(units[head]):
            parts.append(
                f'<rect x="{x:g}" y="{y + place * (height / 4 + 3) + k * (row + 1):g}" width="74" height="{row:g}" '
                f'fill="{HUES[head]}" opacity="{1 - 0.22 * unit:g}"/>'
            )
    return parts


def heads() -> str:
    """Moves that attention allows, and one that it does not."""
    same = ((0, 1, 2, 3),) * 4
    inside = ((2, 0, 3, 1), (1, 3, 0, 2), (3, 2, 1, 0), (0, 2, 1, 3))
    mixed = [
        box(443, 24 + place * 26 + k * 5.75, 74, 4.75, HUES[(place + k) % 4]) for place in range(4) for k in range(4)
    ]
    return svg(
        560, 190,
        *stripes(30, 24, (0, 1, 2, 3), same), *stripes(168, 24, (2, 0, 3, 1), same),
        *stripes(306, 24, (0, 1, 2, 3), inside), *mixed,
        text(67, 148, "query weight"), text(67, 164, "4 heads of 4 units", "s m"),
        text(205, 148, "whole heads"), text(205, 164, "Sym(4)", "s m"),
        text(343, 148, "units of each head"), text(343, 164, "Sym(4)⁴", "s m"),
        text(480, 148, "across heads"), text(480, 164, "changes the function", "s m"),
        f'<path d="M446 22l68 108M514 22l-68 108" stroke="{INK}" stroke-width="2.5"/>',
    )  # fmt: skip


def residual() -> str:
    """x + conv(x) with a grouped convolution: the blocks of the weight, and the stream that has to follow them."""
    groups, edge = 4, 27
    parts = [box(40, 30, groups * edge, groups * edge), text(94, 20, "convolution, 4 groups")]
    parts += [box(40 + k * edge, 30 + k * edge, edge - 1, edge - 1, HUES[k]) for k in range(groups)]
    parts += [
        text(200, 88, "+"),
        text(94, 158, "channels of a group mix,"),
        text(94, 174, "those of two groups never meet"),
    ]
    for k in range(groups):
        parts += [box(238, 30 + k * edge + j * edge / 6, 26, edge / 6 - 1, HUES[k]) for j in range(6)]
    parts += [
        text(251, 20, "x"),
        text(415, 72, "x moves by whole groups: Sym(4)"),
        text(415, 96, "and inside each group: Sym(6)⁴"),
        text(415, 128, "24 channels, but not Sym(24)", "s m"),
        text(415, 144, "HuBERT: 16 groups of 48, not Sym(768)", "s m"),
    ]
    return svg(560, 185, *parts)


ORDER = (2, 0, 3, 1)
SIGNS, SCALES = (1, -1, -1, 1), (0.35, 1, 0.6, 0.2)
TURN = ((0.5, 0.5, 0.5, 0.5), (0.5, -0.5, 0.5, -0.5), (0.5, 0.5, -0.5, -0.5), (-0.5, 0.5, 0.5, -0.5))
CENTRED = ((0.5, 0.5, 0.5, -0.5), (0.5, 0.5, -0.5, 0.5), (0.5, -0.5, 0.5, 0.5), (-0.5, 0.5, 0.5, 0.5))
ANY = ((0.9, -0.3, 0.1, 0.5), (0.2, 0.7, -0.8, 0.1), (-0.4, 0.1, 0.6, 0.3), (0.1, -0.6, 0.2, 1.0))


def placed(values: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """A matrix with one number in each row and column."""
    return tuple(
        tuple(value if k == column else 0 for k in range(4)) for column, value in zip(ORDER, values, strict=True)
    )


KINDS = (
    ("permutation", "Sym(n)", 280, 300, placed((1, 1, 1, 1))),
    ("scaled", "R⁺ wr Sym(n)", 70, 205, placed(SCALES)),
    ("signed", "± Sym(n)", 280, 205, placed(SIGNS)),
    ("centred", "O(n) with O 1 = 1", 490, 205, CENTRED),
    ("monomial", "R* wr Sym(n)", 175, 110, placed(tuple(a * b for a, b in zip(SIGNS, SCALES, strict=True)))),
    ("orthogonal", "O(n)", 385, 110, TURN),
    ("invertible", "GL(n)", 280, 15, ANY),
)
BELOW = {
    "invertible": ("monomial", "orthogonal"), "monomial": ("scaled", "signed"), "orthogonal": ("signed", "centred"),
    "scaled": ("permutation",), "signed": ("permutation",), "centred": ("permutation",),
}  # fmt: skip


def kinds() -> str:
    """The lattice of changes of basis: a matrix of each kind, blue for positive numbers and pink for negative ones."""
    at = {name: (x, y) for name, _, x, y, _ in KINDS}
    parts = [
        line(at[upper][0], at[upper][1] + 76, at[lower][0], at[lower][1] - 4, QUIET)
        for upper, lowers in BELOW.items()
        for lower in lowers
    ]
    for name, symbol, x, y, matrix in KINDS:
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                colour = HUES[0] if value > 0 else HUES[3]
                cell = box(x - 21 + 10.5 * j, y + 10.5 * i, 9.5, 9.5, FILL if not value else colour)
                parts.append(cell if not value else cell.replace("/>", f' opacity="{0.25 + 0.75 * abs(value):g}"/>'))
        parts += [text(x, y + 57, name), text(x, y + 71, symbol, "s m")]
    return svg(560, 380, *parts)


PICTURES = {"symmetry.svg": symmetry, "heads.svg": heads, "residual.svg": residual, "kinds.svg": kinds}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parent / name).write_text(draw(), encoding="utf-8")
