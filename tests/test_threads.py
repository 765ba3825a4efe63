"""Parts of an assignment are solved side by side, and the answer is that of one thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from test_assignment import Unit

from permgraph.assignment import solve as assignment
from permgraph.assignment.solve import Term, solve


@pytest.fixture
def threads():
    """Sets the number of torch's threads, and restores it."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def layers(count: int, seed: int) -> tuple[list[Unit], list[Term]]:
    """Heads with units inside and a flat group, `count` times, of sizes that differ; ties among them."""
    random, groups, terms = np.random.default_rng(seed), [], []
    for k in range(count):
        head, inner, flat = f"h{k}", f"d{k}", f"f{k}"
        groups += [Unit(head, 3), Unit(inner, 4 + k % 2, (head,)), Unit(flat, 10 + 40 * (k % 3))]
        n, m = 4 + k % 2, 10 + 40 * (k % 3)
        terms.append(Term((head, inner), random.standard_normal((3, n, 3, n))))
        terms.append(Term((flat,), random.integers(0, 3, (m, m)).astype(float)))
    return groups, terms


@pytest.mark.parametrize("seed", range(3))
def test_many_threads_find_what_one_finds(seed, threads, monkeypatch):
    monkeypatch.setattr(assignment, "THREADED_ABOVE", 0)
    groups, terms = layers(5, seed)
    found = []
    for count in (1, 4):
        threads(count)
        found.append(solve(groups, terms))
    one, many = found
    assert list(one) == list(many)
    assert one.exact == many.exact
    assert one.value == many.value
    assert all(np.array_equal(one[name], many[name]) for name in one)


@pytest.mark.parametrize(("count", "above", "together"), [(2, 0, True), (1, 0, False), (2, 10**9, False)])
def test_parts_are_solved_at_once_where_there_are_threads_and_it_is_worth_them(
    count, above, together, threads, monkeypatch
):
    monkeypatch.setattr(assignment, "THREADED_ABOVE", above)
    threads(count)
    met, alone = threading.Barrier(2), assignment._solve

    def meeting(part):
        met.wait(timeout=30 if together else 0.05)
        return alone(part)

    monkeypatch.setattr(assignment, "_solve", meeting)
    groups = [Unit("a", 3), Unit("b", 3)]
    terms = [Term((name,), np.eye(3)) for name in "ab"]
    if together:
        assert all((table == np.arange(3)).all() for table in solve(groups, terms).values())
    else:
        with pytest.raises(threading.BrokenBarrierError):
            solve(groups, terms)
