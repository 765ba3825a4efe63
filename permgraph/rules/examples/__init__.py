"""Small calls of every operation with a rule, by which the operation judges it: one file for each file of rules.

Each has a table `EXAMPLES`, and one of `OTHER_FORMS` where operations share a rule with them: other spellings, other
ranks, what exports make of them. A row is the name of an ATen operation, a function that calls it, and its operands:
shapes of normal tensors, or tensors. Distinct sizes tell distinct indices apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from permgraph.rules.example import Example
from permgraph.rules.examples import (
    attention,
    contraction,
    convolution,
    elementwise,
    index,
    norm,
    recurrent,
    reduction,
    segments,
    views,
)

_FAMILIES: tuple[Any, ...] = (
    contraction,
    convolution,
    norm,
    reduction,
    views,
    segments,
    elementwise,
    index,
    attention,
    recurrent,
)


def _examples(rows: Iterable[tuple[Any, ...]]) -> tuple[Example, ...]:
    return tuple(Example(f"aten.{op}", function, tuple(operands)) for op, function, *operands in rows)


EXAMPLES = _examples(row for family in _FAMILIES for row in family.EXAMPLES)
OTHER_FORMS = _examples(row for family in _FAMILIES for row in getattr(family, "OTHER_FORMS", ()))
"""What the rules of these operations miss is what those of `EXAMPLES` show that they miss."""

UNJUDGED = {
    "aten._assert_async": "it has no result",
    "aten._assert_scalar": "it has no result",
    "aten._assert_tensor_metadata": "it has no result",
    "aten._grouped_mm": "it takes no float64; whole models judge it",
    "aten.lift_fresh": "an export makes aten.lift_fresh_copy of it",
    "aten.sym_numel": "its result is a number, and only traces for several sizes have it",
    "aten.sym_size": "its result is a number, and only traces for several sizes have it",
    "transformers.grouped_mm_fallback": "transformers registers it when it is imported; whole models judge it",
}
"""Operations of which no call can judge the rule, and why."""
