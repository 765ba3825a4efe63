"""Weight matching: planted elements come back where coordinate descent fails, and the search says how it ended."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from pairs import PLANTED, mlp, plant, vectors
from torch import nn
from weight_cases import SELF_MEETING, ResidualMLP, Square, Tied, pair, recovered, residual

import permgraph as pg
from permgraph.matching.weights.coordinate_descent import Descent
from permgraph.matching.weights.effort import Effort
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.search import match_weights


@pytest.mark.parametrize(("blocks", "noise"), [(2, 0.0), (6, 0.0), (6, 1.0), (8, 0.5)])
def test_residual_networks_are_recovered_where_descent_from_the_identity_fails(blocks: int, noise: float) -> None:
    spec, a, b, inverse = residual(blocks, noise)
    found = match_weights(spec, spec.groups, a, b)
    assert recovered(found.tables, inverse) == 1.0
    assert found.search.fixed_point
    assert found.search.proven == (noise == 0)
    plain = Descent.of(Pairing.of(spec, spec.groups, a, b)).run(spec.identity())
    assert plain.fixed_point
    assert recovered(plain.tables, inverse) < 0.5


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("name", SELF_MEETING)
def test_a_group_that_meets_itself_on_a_tensor_is_recovered(name: str, noise: float) -> None:
    torch.manual_seed(0)
    build, shape = SELF_MEETING[name]
    spec, a, b, inverse = pair(build(), torch.randn(shape), noise)
    pairing = Pairing.of(spec, spec.groups, a, b)
    assert any(len(site.actions) == 2 for site in pairing.sites)
    assert recovered(match_weights(spec, spec.groups, a, b).tables, inverse) == 1.0


@pytest.mark.parametrize("name", PLANTED)
def test_the_bound_proves_a_planted_solution_the_maximum(name: str) -> None:
    planted = PLANTED[name]()
    found = match_weights(planted.spec, planted.spec.groups, planted.a.state_dict(), planted.b.state_dict())
    search = found.search
    assert search.objective == pytest.approx(search.bound, rel=1e-6)
    assert search.identity < search.objective
    assert search.fixed_point
    assert search.proven
    assert "100.0% of its bound, a proven maximum" in str(search)
    for identity, solution, bound in found.gains.values():
        assert identity <= solution * (1 + 1e-6)
        assert solution == pytest.approx(bound, rel=1e-5)


def test_small_networks_reach_the_best_of_all_elements() -> None:
    torch.manual_seed(0)
    for seed in range(5):
        model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
        spec, a, _, _ = pair(model, torch.randn(3, 2), seed=seed)
        b = {k: torch.randn_like(v) for k, v in a.items()}
        pairing = Pairing.of(spec, spec.groups, a, b)
        one, two = (group.name for group in spec.groups)
        best = max(
            pairing.value({one: np.array(p), two: np.array(q)})
            for p in itertools.permutations(range(spec[one].size))
            for q in itertools.permutations(range(spec[two].size))
        )
        assert match_weights(spec, spec.groups, a, b).search.objective == pytest.approx(best, rel=0.1)


def test_the_answer_repeats_and_large_families_are_found_last() -> None:
    spec, a, b, inverse = residual(2, 1.0)
    one, two = (match_weights(spec, spec.groups, a, b, seed=3) for _ in range(2))
    assert all((one.tables[name] == two.tables[name]).all() for name in one.tables)
    assert one.search == two.search
    spec, a, b, inverse = residual(2, 0.0)
    late = match_weights(spec, spec.groups, a, b, effort=Effort(averaged_above=40))
    assert recovered(late.tables, inverse) == 1.0


def test_the_identity_competes() -> None:
    """Where B is A already, nothing moves, and a start that is worse than the identity is dropped for it."""
    spec, a, _, _ = residual(6, 0.0)
    found = match_weights(spec, spec.groups, a, a)
    assert all((found.tables[name] == table).all() for name, table in spec.identity().items())
    worse = match_weights(spec, spec.groups, a, a, start=spec.sample(1))
    assert worse.search.objective == pytest.approx(worse.search.identity)
    assert worse.search.starts == 2


def test_the_search_is_on_the_alignment_and_progress_is_told() -> None:
    planted = plant(mlp(), vectors())
    stages = []
    found = pg.align(
        planted.a, planted.b, args=(vectors()[0],), progress=lambda stage, done, total: stages.append(stage)
    )
    assert found.search is not None
    assert found.search.fixed_point
    assert {"weights, Frank-Wolfe", "weights, descent"} <= set(stages)
    assert pg.align(planted.a, planted.b, planted.batches).search is None


def test_similarities_without_room_are_made_anew() -> None:
    spec, a, b, _ = residual(2, 0.5)
    kept = match_weights(spec, spec.groups, a, b).search
    bare = Effort(room=0.0, room_at_least=0)
    assert not Descent.of(Pairing.of(spec, spec.groups, a, b, bare)).kept.kept
    assert match_weights(spec, spec.groups, a, b, effort=bare).search.objective == pytest.approx(kept.objective)


def test_large_models_stop_after_a_step_that_gains_little() -> None:
    """Unrelated weights: fewer steps, and an objective about as good; a planted element is still recovered."""
    torch.manual_seed(0)
    spec, a, _, _ = pair(ResidualMLP(2, 64, 96, inputs=8), torch.randn(4, 8))
    b = {k: torch.randn_like(v) * v.std(correction=0) for k, v in a.items()}
    careful = match_weights(spec, spec.groups, a, b).search
    large = Effort(double_below=0, hurried_above=0)
    hurried = match_weights(spec, spec.groups, a, b, effort=large).search
    assert hurried.steps < careful.steps
    assert hurried.starts == 1
    assert hurried.objective > 0.9 * careful.objective
    spec, a, b, inverse = residual(6, 0.5)
    assert recovered(match_weights(spec, spec.groups, a, b, effort=large).tables, inverse) == 1.0


@pytest.mark.parametrize("build", [lambda: Square(5), Tied], ids=["square", "used transposed too"])
def test_a_group_twice_on_one_tensor_reaches_the_best_of_all_elements(build) -> None:
    """The step is quadratic there; a small group has its best element on unrelated weights, the others held."""
    torch.manual_seed(0)
    spec, a, _, _ = pair(build(), torch.randn(4, 2))
    group = next(g for g in spec.groups if {("weight", 1), ("square.weight", 1)} & set(g.axes))
    for seed in range(12):
        torch.manual_seed(seed)
        b = {k: torch.randn_like(v) * v.std(correction=0) for k, v in a.items()}
        pairing = Pairing.of(spec, [group], a, b)
        best = max(pairing.value({group.name: np.array(p)}) for p in itertools.permutations(range(group.size)))
        found = match_weights(spec, [group], a, b).search
        assert found.objective == pytest.approx(best)


def test_the_effort_is_an_option_of_the_method() -> None:
    planted = plant(mlp(), vectors())
    found = pg.align(planted.a, planted.b, args=(vectors()[0],), effort=Effort(steps=1, starts=1))
    assert (found.search.steps, found.search.starts) == (1, 1)
