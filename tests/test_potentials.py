"""One assignment: the optimum, whatever the way to it, and ties that no solver's order decides."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from permgraph.assignment import flat
from permgraph.assignment.costs import TOLERANCE
from permgraph.assignment.flat import assign, assign_each


def similar(kind: str, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((size, 64))
    b = rng.standard_normal((size, 64))
    if kind == "planted":
        b = a[rng.permutation(size)] + 0.1 * b
    if kind == "integers":
        return rng.integers(-2, 3, (size, size)).astype(float)
    if kind == "few equal rows and columns":
        return (a[rng.integers(0, 5, size)] @ b[rng.integers(0, 5, size)].T).round(3)
    if kind == "one scale a row":
        a = a * 10.0 ** rng.uniform(-3, 3, (size, 1)) + 5
    matrix = a @ b.T
    if kind == "dead units":
        matrix[::3], matrix[:, ::3] = 0, 0
    return matrix


KINDS = ("unrelated", "planted", "integers", "few equal rows and columns", "one scale a row", "dead units")


@pytest.mark.parametrize("size", [5, 40, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_is_reached_and_no_path_to_it_decides_a_tie(kind, size, monkeypatch):
    matrix = similar(kind, size)
    rows, best = linear_sum_assignment(-matrix)
    found = {}
    for above in (0, 10**6):
        monkeypatch.setattr(flat, "BALANCED_ABOVE", above)
        found[above] = assign(matrix)
    assert (found[0] == found[10**6]).all()
    slack = 2 * size * TOLERANCE * np.abs(matrix).max()
    assert matrix[rows, found[0]].sum() >= matrix[rows, best].sum() - slack


@pytest.mark.parametrize("kind", ["integers", "few equal rows and columns", "dead units"])
def test_ties_outlive_the_rounding_of_another_machine(kind):
    matrix = similar(kind, 60)
    rounding = 1 + 2e-16 * np.random.default_rng(1).integers(-1, 2, matrix.shape)
    assert (assign(matrix * rounding) == assign(matrix)).all()


def test_dead_units_stay_and_a_matrix_of_one_value_moves_nothing():
    found = assign(similar("dead units", 300))
    assert (found[::3] == np.arange(0, 300, 3)).all()
    for value in (0.0, 1.0, -2.5):
        assert (assign(np.full((300, 300), value)) == np.arange(300)).all()


def test_units_that_stay_are_worth_more_than_every_preference():
    """All rows alike: the columns differ, their sum does not, so nothing moves."""
    matrix = np.tile(np.random.default_rng(0).standard_normal(300), (300, 1))
    assert (assign(matrix) == np.arange(300)).all()
    assert (assign(matrix.T) == np.arange(300)).all()


def test_float32_and_integer_matrices_are_left_alone():
    matrix = similar("unrelated", 300).astype(np.float32)
    before = matrix.copy()
    assign(matrix)
    assert (matrix == before).all()
    assert (assign(np.eye(4, dtype=np.int64)[[1, 0, 3, 2]]) == [1, 0, 3, 2]).all()


@pytest.mark.parametrize("size", [5, 60, 300])
def test_a_stack_is_assigned_as_its_matrices_are(size):
    stack = np.stack([similar(kind, size) for kind in KINDS] + [np.zeros((size, size))])
    assert (assign_each(stack) == [assign(matrix) for matrix in stack]).all()
    assert assign_each(stack[:0]).shape == (0, size)
