"""What exact nested assignment leaves undone; that it is exact is tested beside the other ways to solve."""

from __future__ import annotations

import numpy as np
import pytest
from test_assignment import Unit

from permgraph.assignment import nested
from permgraph.assignment.problem import Found, Problem
from permgraph.assignment.solve import Term, solve


def test_only_blocks_that_may_matter_are_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted element: each outer unit is sought in one other, not in all."""
    solved: list[tuple[int, int]] = []

    def counted(problem: Problem, root: str, blocks: list[tuple[int, int]]) -> list[Found] | None:
        solved.extend(blocks)
        return leaves(problem, root, blocks)

    leaves = nested._leaves
    monkeypatch.setattr(nested, "_leaves", counted)
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


@pytest.mark.parametrize("kind", ["normal", "integers", "zeros"])
def test_blocks_solved_together_are_those_solved_one_by_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups below one root, one of them with two terms; ties as well, and a group that no term has."""
    rng = np.random.default_rng(1)
    draw = {"normal": rng.standard_normal, "zeros": np.zeros, "integers": lambda shape: rng.integers(-1, 2, shape) / 1}
    groups = [Unit("H", 4), *(Unit(name, size, ("H",)) for name, size in (("q", 5), ("v", 3), ("unseen", 2)))]
    shapes = {("H", "q"): (4, 5, 4, 5), ("H", "v"): (4, 3, 4, 3), ("H",): (4, 4)}
    terms = [Term(names, draw[kind](shapes[names])) for names in (*shapes, ("H", "q"))]
    together = solve(groups, terms)
    monkeypatch.setattr(nested, "_leaves", lambda *_: None)
    apart = solve(groups, terms)
    assert together.value == pytest.approx(apart.value)
    assert together.exact == apart.exact
    assert all((together[name] == apart[name]).all() for name in apart)
