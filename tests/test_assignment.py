"""Nested assignment against brute force over every element of the group."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from permgraph.assignment.solve import Term, breakdown, objective, solve
from permgraph.errors import CalibrationError, SpecMismatchError


@dataclass(frozen=True)
class Unit:
    name: str
    size: int
    depends_on: tuple[str, ...] = ()


# name: groups, pinned sizes, terms' axes, which groups must come out exact
CASES = {
    "flat": ([Unit("d", 3)], {}, [("d",), ("d",)], "d"),
    "two flat groups apart": ([Unit("d", 3), Unit("e", 2)], {}, [("d",), ("e",)], "de"),
    "no term": ([Unit("d", 3)], {}, [], "d"),
    "heads": ([Unit("H", 3), Unit("d", 2, ("H",))], {}, [("H", "d")], "Hd"),
    "heads, own term": ([Unit("H", 2), Unit("d", 3, ("H",))], {}, [("H",), ("H", "d")], "Hd"),
    "heads, two children": (
        [Unit("q", 2, ("H",)), Unit("H", 3), Unit("v", 2, ("H",))],
        {},
        [("H",), ("H", "q"), ("H", "v"), ("H", "q")],
        "Hqv",
    ),
    "three levels": (
        [Unit("K", 2), Unit("r", 2, ("K",)), Unit("d", 2, ("K", "r"))],
        {},
        [("K",), ("K", "r"), ("K", "r", "d")],
        "Krd",
    ),
    "three levels and a side branch": (
        [Unit("K", 2), Unit("r", 2, ("K",)), Unit("d", 2, ("K", "r")), Unit("v", 3, ("K",))],
        {},
        [("K", "r", "d"), ("K", "v")],
        "Krdv",
    ),
    "pinned parent": ([Unit("d", 3, ("P",))], {"P": 3}, [("P", "d")], "d"),
    "pinned parent that no term has": ([Unit("d", 2, ("P",))], {"P": 3}, [], "d"),
    "pinned beside": ([Unit("d", 3)], {"P": 2}, [("P", "d"), ("d", "P")], "d"),
    "pinned over heads": (
        [Unit("H", 2, ("P",)), Unit("d", 2, ("P", "H"))],
        {"P": 2},
        [("P", "H"), ("P", "H", "d")],
        "Hd",
    ),
    "pinned between": ([Unit("H", 2), Unit("d", 2, ("H", "P"))], {"P": 2}, [("H", "P", "d"), ("H",)], "Hd"),
    "grouped queries": (
        [Unit("K", 2), Unit("r", 2, ("K",)), Unit("d", 3, ("K",))],
        {},
        [("K", "r", "d"), ("K", "d"), ("K", "r"), ("K",)],
        "Krd",
    ),
    "grouped queries, both sides": (
        [Unit("K", 2), Unit("r", 2, ("K",)), Unit("q", 2, ("K",)), Unit("v", 2, ("K",))],
        {},
        [("K", "r", "q"), ("K", "r", "v"), ("K", "v")],
        "Krqv",
    ),
    "side by side": ([Unit("r", 3), Unit("d", 3)], {}, [("r", "d"), ("d",)], "rd"),
    "side by side under a pinned one": ([Unit("r", 2, ("P",)), Unit("d", 3)], {"P": 2}, [("P", "r", "d")], "rd"),
    "depends on two": (
        [Unit("r", 2), Unit("s", 2), Unit("d", 2, ("r", "s"))],
        {},
        [("r", "s", "d"), ("r",), ("s",)],
        "rsd",
    ),
    "meets itself": ([Unit("d", 4)], {}, [("d", "d"), ("d",)], "d"),
    "meets itself inside a head": ([Unit("H", 2), Unit("d", 3, ("H",))], {}, [("H", "d", "d")], "Hd"),
    "heads meet heads": ([Unit("H", 2), Unit("d", 2, ("H",))], {}, [("H", "d", "H", "d"), ("H", "d")], ""),
}


def sizes_of(groups: list[Unit], pinned: dict[str, int]) -> dict[str, int]:
    return pinned | {g.name: g.size for g in groups}


def random_terms(rng, groups, pinned, axes, *, integers=False) -> list[Term]:
    sizes = sizes_of(groups, pinned)
    shapes = [[sizes[name] for name in names] * 2 for names in axes]
    draw = (lambda s: rng.integers(-1, 2, s).astype(float)) if integers else rng.standard_normal
    return [Term(names, draw(shape)) for names, shape in zip(axes, shapes, strict=True)]


def table_shape(group: Unit, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[name] for name in (*group.depends_on, group.name))


def every_element(groups: list[Unit], sizes: dict[str, int]) -> Iterator[dict[str, np.ndarray]]:
    choices = []
    for group in groups:
        count = math.prod(table_shape(group, sizes)[:-1])
        rows = itertools.product(itertools.permutations(range(group.size)), repeat=count)
        choices.append([np.array(row).reshape(table_shape(group, sizes)) for row in rows])
    for tables in itertools.product(*choices):
        yield dict(zip([g.name for g in groups], tables, strict=True))


def random_element(rng, groups, sizes) -> dict[str, np.ndarray]:
    rows = {g.name: np.broadcast_to(np.arange(g.size), table_shape(g, sizes)) for g in groups}
    return {name: rng.permuted(table, axis=-1) for name, table in rows.items()}


def plain_objective(groups: list[Unit], terms: list[Term], tables) -> float:
    """The definition, one coordinate at a time; for terms that have no name twice."""
    deps, total = {g.name: g.depends_on for g in groups}, 0.0
    for term in terms:
        for a in np.ndindex(term.matrix.shape[: len(term.groups)]):
            at = dict(zip(term.groups, a, strict=True))
            source = [int(tables[n][(*(at[d] for d in deps[n]), at[n])]) if n in deps else at[n] for n in term.groups]
            total += term.matrix[(*a, *source)]
    return total


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_reaches_the_best_of_all_elements(case, seed):
    groups, pinned, axes, _ = CASES[case]
    terms = random_terms(np.random.default_rng(seed), groups, pinned, axes)
    found = solve(groups, terms, pinned=pinned)
    best = max(objective(groups, terms, t) for t in every_element(groups, sizes_of(groups, pinned)))
    assert found.value == pytest.approx(best, abs=1e-7)
    assert found.value == pytest.approx(objective(groups, terms, found), abs=1e-9)
    for group in groups:
        table = found[group.name]
        assert table.dtype == np.int64
        assert table.shape == table_shape(group, sizes_of(groups, pinned))
        assert (np.sort(table, axis=-1) == np.arange(group.size)).all()


@pytest.mark.parametrize("case", CASES)
def test_says_which_groups_are_exact(case):
    groups, pinned, axes, exact = CASES[case]
    found = solve(groups, random_terms(np.random.default_rng(0), groups, pinned, axes), pinned=pinned)
    assert sorted(found.exact) == sorted(exact)


def test_a_local_search_is_not_called_exact():
    groups = [Unit("r", 5), Unit("d", 5), Unit("apart", 2)]
    terms = random_terms(np.random.default_rng(0), groups, {}, [("r", "d"), ("apart",)])
    assert solve(groups, terms).exact == ("apart",)


@pytest.mark.parametrize("case", [c for c in CASES if all(len(set(axes)) == len(axes) for axes in CASES[c][2])])
def test_objective_is_its_definition(case):
    groups, pinned, axes, _ = CASES[case]
    rng = np.random.default_rng(5)
    terms = random_terms(rng, groups, pinned, axes)
    tables = random_element(rng, groups, sizes_of(groups, pinned))
    assert objective(groups, terms, tables) == pytest.approx(plain_objective(groups, terms, tables))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(4))
def test_the_identity_wins_every_tie(case, seed):
    groups, pinned, axes, _ = CASES[case]
    terms = random_terms(np.random.default_rng(seed), groups, pinned, axes, integers=True)
    terms = [Term(t.groups, np.minimum(t.matrix, 0) * (1 - diagonal(t))) for t in terms]
    found = solve(groups, terms, pinned=pinned)
    for group in groups:
        assert (found[group.name] == np.arange(group.size)).all()


def diagonal(term: Term) -> np.ndarray:
    """1 where B's coordinates are A's, so the identity is never worse than another element."""
    shape = term.matrix.shape[: len(term.groups)]
    return np.eye(math.prod(shape)).reshape(term.matrix.shape)


@pytest.mark.parametrize("seed", range(10))
def test_dead_units_stay_where_they_can(seed):
    rng = np.random.default_rng(seed)
    similarity = np.eye(12)[rng.permutation(12)] + 0.1 * rng.random((12, 12))
    dead = [1, 5, 8]
    similarity[dead] = 0
    similarity[:, dead] = 0
    perm = solve([Unit("d", 12)], [Term(("d",), similarity)])["d"]
    assert (perm[dead] == dead).all()


def test_the_tolerance_is_the_documented_one():
    close = np.array([[1.0, 1.0 + 1e-9], [1.0, 1.0]])
    apart = np.array([[1.0, 1.0 + 1e-8], [1.0, 1.0]])
    assert solve([Unit("d", 2)], [Term(("d",), close)])["d"].tolist() == [0, 1]
    assert solve([Unit("d", 2)], [Term(("d",), apart)])["d"].tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_recovers_planted_heads_from_activations(seed):
    """B's channels are A's, moved back: new[h, i] = old[heads[h], dims[h, i]] must give A."""
    rng = np.random.default_rng(seed)
    groups = [Unit("H", 4), Unit("d", 6, ("H",))]
    planted = random_element(rng, groups, {"H": 4, "d": 6})
    frames_b = rng.standard_normal((300, 4, 6)).astype(np.float32)
    frames_a = frames_b[:, planted["H"][:, None], planted["d"]] + 0.3 * rng.standard_normal((300, 4, 6))
    similarity = np.corrcoef(frames_a.reshape(300, -1).T, frames_b.reshape(300, -1).T)[:24, 24:]
    found = solve(groups, [Term(("H", "d"), similarity.reshape(4, 6, 4, 6))])
    for name, table in planted.items():
        assert (found[name] == table).all()


@pytest.mark.parametrize(("queries", "dims"), [(3, 8), (7, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_recovers_planted_grouped_queries(queries, dims, seed):
    rng = np.random.default_rng(seed)
    groups = [Unit("K", 2), Unit("r", queries, ("K",)), Unit("d", dims, ("K",))]
    planted = random_element(rng, groups, sizes_of(groups, {}))
    shape = (200, 2, queries, dims)
    frames_b = rng.standard_normal(shape)
    k, r, d = np.ogrid[:2, :queries, :dims]
    frames_a = frames_b[:, planted["K"][k], planted["r"][k, r], planted["d"][k, d]] + 0.5 * rng.standard_normal(shape)
    similarity = (frames_a.reshape(200, -1).T @ frames_b.reshape(200, -1)).reshape(*shape[1:], *shape[1:])
    found = solve(groups, [Term(("K", "r", "d"), similarity)])
    for name, table in planted.items():
        assert (found[name] == table).all()


def test_a_start_is_climbed_from():
    rng = np.random.default_rng(0)
    groups = [Unit("d", 7)]
    perm = rng.permutation(7)
    a = rng.standard_normal((7, 7))
    b = np.empty_like(a)
    b[np.ix_(perm, perm)] = a
    terms = [Term(("d", "d"), np.einsum("ij,kl->ijkl", a, b))]
    near = perm.copy()
    near[[0, 1]] = near[[1, 0]]
    found = solve(groups, terms, start={"d": near})
    assert (found["d"] == perm).all()
    assert found.exact == ()
    assert solve(groups, terms).value <= found.value


def test_breakdown_counts_a_term_for_each_of_its_groups():
    groups = [Unit("H", 2), Unit("d", 3, ("H",))]
    terms = random_terms(np.random.default_rng(0), groups, {}, [("H",), ("H", "d")])
    found = solve(groups, terms)
    parts = breakdown(groups, terms, found)
    assert parts["H"] == pytest.approx(found.value)
    assert parts["d"] == pytest.approx(objective(groups, terms[1:], found))


def test_the_matrix_is_left_alone_and_the_answer_repeats():
    groups = [Unit("K", 2), Unit("r", 5, ("K",)), Unit("d", 5, ("K",))]
    terms = random_terms(np.random.default_rng(1), groups, {}, [("K", "r", "d"), ("K", "d")])
    copies = [t.matrix.copy() for t in terms]
    first, second = solve(groups, terms), solve(groups, terms)
    assert all((first[name] == second[name]).all() for name in first)
    assert all((t.matrix == c).all() for t, c in zip(terms, copies, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(value):
    matrix = np.zeros((3, 3))
    matrix[1, 2] = value
    with pytest.raises(CalibrationError, match="d is not finite"):
        solve([Unit("d", 3)], [Term(("d",), matrix)])


REFUSED = {
    "matrix of shape": ([Unit("d", 3)], [Term(("d",), np.zeros((3, 2)))], None),
    "its group has 3": ([Unit("d", 3)], [Term(("d",), np.zeros((2, 2)))], None),
    "must be axes too": ([Unit("H", 2), Unit("d", 3, ("H",))], [Term(("d",), np.zeros((3, 3)))], None),
    "pass it in `pinned`": ([Unit("d", 3, ("P",))], [], None),
    "which those depend on": ([Unit("H", 2, ("P",)), Unit("d", 3, ("H",))], [], None),
    "start: the table": ([Unit("d", 3)], [], {"d": np.arange(2)}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refuses_what_does_not_fit(message):
    groups, terms, start = REFUSED[message]
    with pytest.raises(SpecMismatchError, match=message):
        solve(groups, terms, start=start)
