"""Weight matching: planted elements come back where coordinate descent fails, and the search says how it ended."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from pairs import PLANTED, mlp, plant, vectors
from torch import Tensor, nn

import permgraph as pg
from permgraph.matching.descent import Descent
from permgraph.matching.factors import Soft
from permgraph.matching.frank_wolfe import frank_wolfe
from permgraph.matching.objective import Pairing
from permgraph.matching.relaxation import Relaxation, relax
from permgraph.matching.soft import Mixture
from permgraph.matching.weights import match_weights


class ResidualMLP(nn.Module):
    """x + block(x), with one input: the residual stream is told apart by little else than the blocks."""

    def __init__(self, blocks: int, width: int, hidden: int, inputs: int = 1) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(inputs, width), nn.Linear(width, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for _ in range(blocks)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1) if parameter.dim() > 1 else nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class GroupedConv(nn.Module):
    """Both channel axes of a grouped convolution lie within one group axis, and the stream meets itself there."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv1d(2, 12, 1), nn.Conv1d(12, 2, 1)
        self.conv = nn.Conv1d(12, 12, 3, padding=1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + torch.relu(x + self.conv(x)))


class Square(nn.Module):
    """A square weight on the residual stream: one group twice on one tensor."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed, self.square, self.head = nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + torch.tanh(x + self.square(x)))


def pair(model: nn.Module, x: Tensor, noise: float = 0.0, seed: int = 0):
    """The specification, A's weights, those of a planted and noisy B, and the element that moves B back."""
    spec = pg.derive(model.eval(), (x,))
    a = model.state_dict()
    torch.manual_seed(seed)
    b = {k: v + noise * v.std(correction=0) * torch.randn_like(v) for k, v in a.items()}
    element = spec.sample(seed + 1)
    return spec, a, spec.apply(element, b), spec.invert(element)


def residual(blocks: int, noise: float, seed: int = 0, width: int = 30, hidden: int = 50):
    torch.manual_seed(seed)
    return pair(ResidualMLP(blocks, width, hidden), torch.randn(4, 1), noise, seed)


def recovered(found, wanted) -> float:
    return float(np.mean([(found[name] == table).mean() for name, table in wanted.items()]))


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


SELF_MEETING = {"square": (Square, (4, 2)), "grouped convolution": (GroupedConv, (2, 2, 9))}


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


def relaxations() -> list[Relaxation]:
    found = []
    for build, shape in SELF_MEETING.values():
        torch.manual_seed(0)
        spec, a, b, _ = pair(build(), torch.randn(shape))
        found.append(relax(Pairing.of(spec, spec.groups, a, b), [g.name for g in spec.groups], spec.identity()))
    spec, a, b, _ = residual(2, 0.5, width=6, hidden=8)
    return [*found, relax(Pairing.of(spec, spec.groups, a, b), [g.name for g in spec.groups], spec.identity())]


def somewhere(problem: Relaxation, seed: int) -> Soft:
    """The barycentre and three random elements, mixed."""
    random, soft = np.random.default_rng(seed), problem.barycentre()
    for step in (0.5, 0.4, 0.3):
        tables = {group.name: random.permuted(group.identity(), axis=-1) for group in problem.groups}
        soft = problem.toward(soft, problem.flat(tables), step)
    return soft


@pytest.mark.parametrize("number", range(3))
def test_the_gradient_is_that_of_the_objective(number: int) -> None:
    """Along a line F is a polynomial: its value at the ends and its slopes agree with four points between."""
    problem = relaxations()[number]
    soft = somewhere(problem, 0)
    element = {group.name: np.random.default_rng(9).permuted(group.identity(), axis=-1) for group in problem.groups}
    flat = problem.flat(element)
    points = np.linspace(0, 1, problem.degree + 1)
    values = [problem.value(problem.toward(soft, flat, float(p))) for p in points]
    curve = np.polynomial.Polynomial.fit(points, values, problem.degree)
    value, gradient = problem.gradient(soft)
    target = problem.toward(soft, flat, 1.0)
    slope = sum(target[axes].inner(matrix) - soft[axes].inner(matrix) for axes, matrix in gradient.items())
    assert value == pytest.approx(values[0])
    assert slope == pytest.approx(curve.deriv()(0))
    assert problem.at(flat) == pytest.approx(values[-1])


@pytest.mark.parametrize("number", range(3))
def test_the_relaxed_objective_is_the_objective_at_elements(number: int) -> None:
    torch.manual_seed(0)
    build, shape = (*SELF_MEETING.values(), (lambda: ResidualMLP(2, 6, 8), (4, 1)))[number]
    spec, a, b, _ = pair(build(), torch.randn(shape), 0.5)
    pairing = Pairing.of(spec, spec.groups, a, b)
    problem = relax(pairing, [g.name for g in spec.groups], spec.identity())
    for seed in range(3):
        element = spec.sample(seed)
        moved = spec.apply(element, b)
        direct = sum(float((a[site.name].double() * moved[site.name].double()).sum()) for site in pairing.sites)
        assert pairing.value(element) == pytest.approx(direct, rel=1e-5)
        assert problem.at(problem.flat(element)) == pytest.approx(direct, rel=1e-5)
        assert direct <= sum(map(pairing.bound, pairing.sites)) * (1 + 1e-6)


def test_frank_wolfe_never_falls_and_ends_at_a_stationary_point() -> None:
    for problem in relaxations():
        start = somewhere(problem, 3)
        found = frank_wolfe(problem, start)
        assert found.value >= problem.value(start)
        assert found.gap is None or found.gap >= -1e-9


def test_a_mixture_acts_as_its_dense_matrix() -> None:
    random = np.random.default_rng(0)
    for blocks, terms in itertools.product((1, 3), (0, 1, 3, 12)):
        mixture = Mixture(6, blocks, 1.0)
        for _ in range(terms):
            index = (random.permuted(np.arange(6).reshape(blocks, -1), axis=1)).ravel()
            mixture = mixture.toward(index, 0.3)
        tensor = torch.randn(4, 6, 5, dtype=torch.float64)
        torch.testing.assert_close(mixture.act(tensor, 1), torch.einsum("uv,avb->aub", mixture.dense, tensor))
        torch.testing.assert_close(mixture.dense.sum(0), torch.ones(6, dtype=torch.float64))
        torch.testing.assert_close(mixture.dense.sum(1), torch.ones(6, dtype=torch.float64))
        matrix = torch.randn(6, 6, dtype=torch.float64)
        assert mixture.inner(matrix) == pytest.approx(float((matrix * mixture.dense).sum()))


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


def test_the_answer_repeats_and_large_families_are_found_last(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, a, b, inverse = residual(2, 1.0)
    one, two = (match_weights(spec, spec.groups, a, b, seed=3) for _ in range(2))
    assert all((one.tables[name] == two.tables[name]).all() for name in one.tables)
    assert one.search == two.search
    monkeypatch.setattr("permgraph.matching.weights.LARGE", 40)
    spec, a, b, inverse = residual(2, 0.0)
    assert recovered(match_weights(spec, spec.groups, a, b).tables, inverse) == 1.0


def test_the_identity_competes() -> None:
    """Where B is A already, nothing moves, and a start that is worse than the identity is left for it."""
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


def test_kept_similarities_are_those_made_anew() -> None:
    """After every move, of one group or of many, on networks with linear and with self-meeting sites."""
    for build, shape in (*SELF_MEETING.values(), (lambda: ResidualMLP(2, 6, 8, inputs=2), (4, 2))):
        torch.manual_seed(0)
        spec, a, b, _ = pair(build(), torch.randn(shape), 0.5)
        pairing = Pairing.of(spec, spec.groups, a, b)
        descent, tables = Descent.of(pairing), dict(spec.identity())
        assert any(axes in descent.kept.kept for site in pairing.sites for axes in [site.actions[0].axes])
        for step, names in enumerate([[], *([g.name] for g in spec.groups), [g.name for g in spec.groups]]):
            tables |= {name: spec.sample(step)[name] for name in names}
            for k, family in enumerate(descent.families):
                wanted = relax(pairing, [g.name for g in family], tables, where=descent.near[k])
                found = descent.problem(k, tables)
                assert found.bound == pytest.approx(wanted.bound)
                for axes, matrix in wanted.linear.items():
                    torch.testing.assert_close(found.linear[axes], matrix)


def test_similarities_without_room_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, a, b, _ = residual(2, 0.5)
    kept = match_weights(spec, spec.groups, a, b).search
    monkeypatch.setattr("permgraph.matching.similarities.ROOM_AT_LEAST", 0)
    monkeypatch.setattr("permgraph.matching.similarities.ROOM", 0.0)
    assert not Descent.of(Pairing.of(spec, spec.groups, a, b)).kept.kept
    assert match_weights(spec, spec.groups, a, b).search.objective == pytest.approx(kept.objective)


def test_large_models_stop_after_a_step_that_gains_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unrelated weights: fewer steps, and an objective about as good; a planted element is still recovered."""
    torch.manual_seed(0)
    spec, a, _, _ = pair(ResidualMLP(2, 64, 96, inputs=8), torch.randn(4, 8))
    b = {k: torch.randn_like(v) * v.std(correction=0) for k, v in a.items()}
    careful = match_weights(spec, spec.groups, a, b).search
    monkeypatch.setattr("permgraph.matching.objective.DOUBLE_BELOW", 0)
    monkeypatch.setattr("permgraph.matching.weights.HURRIED", 0)
    monkeypatch.setattr("permgraph.matching.descent.HURRIED", 0)
    hurried = match_weights(spec, spec.groups, a, b).search
    assert hurried.steps < careful.steps
    assert hurried.starts == 1
    assert hurried.objective > 0.9 * careful.objective
    spec, a, b, inverse = residual(6, 0.5)
    assert recovered(match_weights(spec, spec.groups, a, b).tables, inverse) == 1.0


class Tied(nn.Module):
    """W[n, n] on one stream, used as it is and transposed: one group twice on one tensor, and a Gram matrix of it."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.embed, self.weight = nn.Linear(2, width), nn.Parameter(torch.randn(width, width))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + torch.tanh(x @ self.weight @ self.weight.T))


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
