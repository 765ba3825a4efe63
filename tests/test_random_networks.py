"""No random network may have an unsound group."""

import pytest
from judge import error
from random_networks import build

from permgraph import derive

QUICK, ALL = 100, 2000
CHUNK = 20


def kinds():
    for kind, last in (("permutation", QUICK), ("all", CHUNK), ("signed", 0)):
        for start in range(0, ALL, CHUNK):
            marks = [pytest.mark.slow] if start >= last else []
            yield pytest.param(start, kind, id=f"{kind}-{start}+", marks=marks)


@pytest.mark.parametrize(("start", "kind"), list(kinds()))
def test_groups_are_sound(start, kind):
    unsound = {}
    for seed in range(start, start + CHUNK):
        case = build(seed)
        found = error(case, derive(case.model, case.args, kinds=kind), seed)
        if not found < 1e-9:
            unsound[seed] = found
    assert not unsound


def test_a_seed_gives_one_network():
    a, b = build(7), build(7)
    assert str(a.model) == str(b.model)
    assert all(
        (x == y).all() for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    )
