"""The relaxed objective of weight matching: its gradient, its value at elements, and what is kept of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from weight_cases import SELF_MEETING, ResidualMLP, pair, residual

from permgraph.matching.weights.coordinate_descent import Descent
from permgraph.matching.weights.doubly_stochastic import Mixture
from permgraph.matching.weights.frank_wolfe import frank_wolfe
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.polynomial import Factor, Soft
from permgraph.matching.weights.relaxation import Relaxation, relax


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


ACTIONS = {
    "a grouped convolution": (((0, 1), (0, 2)), (4, 3, 3, 2)),
    "heads last": (((1, 0), (2, 0)), (4, 3, 5, 2)),
    "two selectors in another order": (((0, 1, 2), (1, 0, 3)), (2, 3, 4, 2, 2)),
    "one within the other": (((0, 1), (0,)), (4, 3, 2)),
    "an axis of neither": (((0, 2), (0, 3)), (2, 5, 3, 4, 2)),
}


@pytest.mark.parametrize("kind", ACTIONS)
def test_block_by_block_a_derivative_is_that_of_dense_matrices(kind: str) -> None:
    """Actions that share an atom: those of a nested element agree on its source."""
    spans, shape = ACTIONS[kind]
    random, generator = np.random.default_rng(2), torch.Generator().manual_seed(2)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    shared = set(spans[0]) & set(spans[1])
    sizes = [[shape[atom] for atom in span] for span in spans]
    soft = {(str(k),): Mixture(int(np.prod(size)), 1, 1.0) for k, size in enumerate(sizes)}
    for step in (0.5, 0.3):
        outer = {atom: random.permutation(shape[atom]) for atom in shared}
        for (axes, mixture), span, size in zip(list(soft.items()), spans, sizes, strict=True):
            place = dict(zip(span, np.indices(size), strict=True))
            (own,) = (atom for atom in span if atom not in shared) if set(span) != shared else (None,)
            sources = {atom: outer[atom][place[atom]] for atom in shared}
            if own is not None:
                selectors = [atom for atom in span if atom in shared]
                table = np.broadcast_to(np.arange(shape[own]), [shape[x] for x in (*selectors, own)])
                sources[own] = random.permuted(table, axis=-1)[tuple(place[x] for x in (*selectors, own))]
            index = np.ravel_multi_index([sources[atom] for atom in span], size).ravel()
            soft[axes] = mixture.toward(index, step)
    factor = Factor(a, b, tuple(((str(k),), span) for k, span in enumerate(spans)))
    for free in range(2):
        torch.testing.assert_close(factor.partial(soft, free), factor._dense_partial(soft, free))


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


def test_a_family_is_searched_where_it_meets_itself() -> None:
    """What descent leaves for last is what Frank-Wolfe improves: a term of the second degree stays."""
    kinds = set()
    for build, shape in (*SELF_MEETING.values(), (lambda: ResidualMLP(2, 6, 8), (4, 1))):
        torch.manual_seed(0)
        spec, a, b, _ = pair(build(), torch.randn(shape))
        descent = Descent.of(Pairing.of(spec, spec.groups, a, b))
        for k in range(len(descent.families)):
            kinds.add(descent._searched(k))
            assert descent._searched(k) == bool(descent.problem(k, spec.identity()).factors)
    assert kinds == {False, True}


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
