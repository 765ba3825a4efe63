"""Models of the zoo with generic weights, and how far two canonical forms are apart."""

from __future__ import annotations

from judge import generic
from test_zoo import derived
from torch import Tensor, nn
from zoo import ROWS, Row
from zoo_rows import Case

import permgraph as pg

CLOSE = 1e-9
ROW = {row.name: row for row in ROWS}


def prepared(row: Row, kinds: str) -> tuple[Case, pg.PermutationSpec, nn.Module]:
    """A model of the zoo with generic weights in float64, and its group with fixed outputs."""
    case = derived(row)[0]
    spec = pg.derive(case.model, case.args, case.kwargs, kinds=kinds)
    return case, spec, generic(case.model, 0, spec.held)


def gap(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest value of its tensor."""
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max() / a[n].abs().max().clamp(min=1e-30)) for n in a if a[n].numel())
