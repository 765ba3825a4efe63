"""What exact nested assignment leaves undone; that it is exact is tested beside the other ways to solve."""

from __future__ import annotations

import numpy as np
import pytest
from test_assignment import Unit

from permgraph.matching import nesting
from permgraph.matching.assignment import Term, solve
from permgraph.matching.posing import Problem


def test_only_blocks_that_may_matter_are_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted element: each outer unit is sought in one other, not in all."""
    solved: list[tuple[int, int | None]] = []

    def counted(problem: Problem, name: str, a: int, b: int | None) -> Problem:
        solved.append((a, b))
        return at(problem, name, a, b)

    at = nesting._at
    monkeypatch.setattr(nesting, "_at", counted)
    rng = np.random.default_rng(0)
    size, inner = 6, 5
    matrix = rng.uniform(-0.1, 0.1, (size, inner, size, inner))
    heads = rng.permutation(size)
    units = np.stack([rng.permutation(inner) for _ in range(size)])
    for i, j in enumerate(heads):
        matrix[i, range(inner), j, units[i]] += 1
    found = solve([Unit("H", size), Unit("d", inner, ("H",))], [Term(("H", "d"), matrix)])
    assert (found["H"] == heads).all()
    assert (found["d"] == units).all()
    assert sorted(solved) == sorted(enumerate(heads.tolist()))
