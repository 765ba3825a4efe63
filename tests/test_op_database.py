"""PyTorch's own database of operator calls judges the rules: no claim is wrong, whatever the arguments."""

from __future__ import annotations

from typing import Any

import pytest

from permgraph.errors import CaptureError
from permgraph.judging import judge
from permgraph.judging.op_database import calls, entries

ENTRIES = list(entries())
QUICK = 12
NOT_TRACED = {
    "aten.addbmm": "PyTorch cannot trace the in-place form of a batch whose sum is broadcast",
    "aten.narrow": "where it starts is the value of a tensor",
    "aten.tensor_split": "where it splits are the values of a tensor",
}


def chosen() -> list[Any]:
    """One call of every so many entries, and all calls of all entries with the slow tests."""
    quick = [pytest.param(ENTRIES[::QUICK], 1, id="some")]
    for start in range(0, len(ENTRIES), QUICK):
        some = ENTRIES[start : start + QUICK]
        quick.append(pytest.param(some, None, id=f"all from {some[0].name}", marks=pytest.mark.slow))
    return quick


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of its own unusual calls
@pytest.mark.parametrize(("some", "most"), chosen())
def test_no_rule_claims_too_much_for_any_arguments(some: list[Any], most: int | None) -> None:
    wrong, unjudged = [], set()
    for entry in some:
        for call in calls(entry, most):
            try:
                wrong += [str(call)] * bool(judge(call, 2, swaps=False).wrong)
            except CaptureError:
                unjudged.add(call.op)
    assert not wrong
    assert unjudged <= NOT_TRACED.keys()


def test_the_database_has_most_operations_with_a_rule() -> None:
    assert len(ENTRIES) > 300
    example = next(calls(next(entries("linalg_norm"))))
    assert str(example).startswith("aten.linalg_norm([")
    assert "sample 0" in str(example)
