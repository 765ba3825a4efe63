"""Large assignments on few entries of each row: the optimum of the dense solver, its proof, and where it gives up."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import permgraph as pg
from permgraph.assignment import flat, sparse
from permgraph.assignment.costs import ROWS, TOLERANCE, Costs, preference
from permgraph.assignment.flat import assign
from permgraph.assignment.potentials import potentials

SIZE = 400


def hostile(kind: str, size: int = SIZE, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, size, 64))
    noise = a @ b.T
    return {
        "noise": lambda: noise,
        "float32": lambda: noise.astype(np.float32),
        "float16": lambda: noise.astype(np.float16),
        "columns first": lambda: np.asfortranarray(noise),
        "planted": lambda: a @ (a[rng.permutation(size)] + b).T,
        "ties": lambda: rng.integers(-2, 3, (size, size)).astype(float),
        "rows alike": lambda: np.tile(rng.standard_normal(size), (size, 1)),
        "columns alike": lambda: np.tile(rng.standard_normal(size), (size, 1)).T,
        "few different rows": lambda: (a[rng.integers(0, 5, size)] @ b[rng.integers(0, 5, size)].T).round(3),
        "all want the first 30": lambda: noise + 1e3 * (np.arange(size) < 30),
        "zeros": lambda: np.zeros((size, size)),
        "one entry": lambda: np.eye(1, size * size, 5).reshape(size, size),
        "dead units": lambda: noise * (np.arange(size) % 3 > 0) * (np.arange(size) % 3 > 0)[:, None],
        "negative": lambda: -np.abs(noise) - 1,
        "huge range": lambda: noise * 10.0 ** rng.uniform(-30, 30, (size, 1)),
        "enormous": lambda: noise * 1e300,
        "minute": lambda: noise * 1e-300,
        "denormal": lambda: noise * 1e-310,
        "products": lambda: np.outer(rng.standard_normal(size), rng.standard_normal(size)),
        "Machol and Wien": lambda: -np.outer(np.arange(1.0, size + 1), np.arange(1.0, size + 1)),
    }[kind]()


KINDS = (
    "noise", "float32", "float16", "columns first", "planted", "ties", "rows alike", "columns alike",
    "few different rows", "all want the first 30", "zeros", "one entry", "dead units", "negative", "huge range",
    "enormous", "minute", "denormal", "products", "Machol and Wien",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_is_that_of_the_dense_solver(kind, monkeypatch):
    value = hostile(kind)
    monkeypatch.setattr(flat, "SPARSE_ABOVE", 10**6)
    dense = assign(value)
    monkeypatch.setattr(flat, "SPARSE_ABOVE", 0)
    found = assign(value)
    wide, units = value.astype(np.float64), np.arange(SIZE)
    scaled = wide / np.abs(wide).max() if wide.any() else wide
    best = scaled[linear_sum_assignment(-scaled)].sum()
    assert np.array_equal(np.sort(found), units)
    for perm in (dense, found):
        assert scaled[units, perm].sum() >= best - 2 * SIZE * TOLERANCE
    assert scaled[units, found].sum() == pytest.approx(scaled[units, dense].sum(), abs=SIZE * 1e-12)
    if kind not in ("products", "Machol and Wien"):  # near-ties below the accuracy of either solver
        assert (found == dense).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zeros"])
def test_the_nearest_columns_are_those_of_the_costs(kind):
    costs = Costs(hostile(kind))
    for first in range(0, SIZE, ROWS):
        assert (costs.nearest(first) == costs.rows(first).argmin(1)).all()


@pytest.mark.parametrize("kind", ["noise", "float32", "all want the first 30", "negative"])
def test_the_duals_prove_the_optimum(kind):
    costs = Costs(hostile(kind))
    perm, duals = sparse.assign_sparse(costs, potentials(costs, 20))
    assert perm is not None
    every = np.concatenate(list(costs))
    rows = every[np.arange(SIZE), perm] - duals[perm]
    assert (every - duals - rows[:, None]).min() >= -2 * sparse.COVERED
    gap = every[np.arange(SIZE), perm].sum() - (np.minimum(rows, (every - duals).min(1)).sum() + duals.sum())
    assert 0 <= gap + 1e-9 <= 1e-9 + SIZE * sparse.COVERED


@pytest.mark.parametrize("name", ["ROUNDS", "SWEEPS", "MOST"])
def test_a_matrix_that_takes_too_long_goes_to_the_dense_solver(name, monkeypatch):
    value = hostile("noise")
    expected = assign(value)
    monkeypatch.setattr(flat, "SPARSE_ABOVE", 0)
    monkeypatch.setattr(flat, "ROUNDS_OF_SPARSE", 0)  # so that the start is bad
    monkeypatch.setattr(sparse, "CANDIDATES", 2)
    monkeypatch.setattr(sparse, name, 1 if name != "MOST" else 0)
    assert sparse.assign_sparse(Costs(value), np.zeros(SIZE))[0] is None
    assert (assign(value) == expected).all()


def test_ties_are_left_to_the_dense_solver_soon(monkeypatch):
    costs = Costs(hostile("ties"))
    sweeps = []
    monkeypatch.setattr(sparse, "_cycles", lambda *given, old=sparse._cycles: sweeps.append(1) or old(*given))
    assert sparse.assign_sparse(costs, potentials(costs, 20))[0] is None
    assert len(sweeps) < 64


def test_few_candidates_are_enough_since_others_are_taken_in(monkeypatch):
    value = hostile("noise")
    expected = assign(value)
    monkeypatch.setattr(flat, "SPARSE_ABOVE", 0)
    monkeypatch.setattr(sparse, "CANDIDATES", 2)
    monkeypatch.setattr(sparse, "ROUNDS", 100)
    assert (assign(value) == expected).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [5, 300, 1100])
def test_what_is_not_finite_is_refused(wrong, size):
    value = np.random.default_rng(0).standard_normal((size, size))
    value[size - 1, 1] = wrong
    with pytest.raises(pg.CalibrationError, match="an assignment has values that are not finite"):
        assign(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_costs_are_those_of_the_rows(dtype):
    costs = Costs(hostile("noise", 300).astype(dtype))
    every = np.concatenate(list(costs))
    rows, columns = np.divmod(np.arange(300 * 300), 300)
    assert (costs.at(rows, columns) == every.ravel()).all()
    assert np.abs(np.concatenate(list(costs.rough())) - every).max() < sparse.ROUGH
    assert preference(3, 5, 300).shape == (2, 300)
    assert 0 <= preference(0, 300, 300).min() <= preference(0, 300, 300).max() < 1
