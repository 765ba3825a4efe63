"""Many models: one space, cycles that close, and merges that give the original back."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from pairs import PLANTED, hubert, mlp, vectors
from torch import nn

import permgraph as pg
from permgraph.assignment.solve import objective
from permgraph.comparing import models as models_compared
from permgraph.comparing.batches import Batches
from permgraph.comparing.models import Models
from permgraph.comparing.points import Point, find_points
from permgraph.matching import portions, universe
from permgraph.matching.correlation import correlations
from permgraph.matching.match import Task
from permgraph.matching.weights.search import match_weights
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.proof.verification import Certificate
from permgraph.tracing.capture import capture

X = vectors()[0]


def copies(model: nn.Module, spec: pg.PermutationSpec, count: int = 3, noise: float = 0.0) -> list[nn.Module]:
    """The model and planted copies of it."""
    torch.manual_seed(5)
    found = [model]
    for seed in range(1, count):
        other = copy.deepcopy(model)
        state = {k: v + noise * v.std() * torch.randn_like(v) for k, v in model.state_dict().items()}
        other.load_state_dict(spec.apply(spec.sample(seed), state))
        found.append(other)
    return found


def trio(noise: float = 0.0) -> tuple[pg.PermutationSpec, list[nn.Module]]:
    model = mlp()
    spec = pg.derive(model, (vectors()[0],))
    return spec, copies(model, spec, noise=noise)


def arguments(method: str) -> dict[str, object]:
    return {"args": (vectors()[0],)} if method == "weights" else {"data": vectors()}


def relative(spec: pg.PermutationSpec, found: tuple[pg.Permutations, ...], a: int, b: int) -> pg.Permutations:
    """The element that moves model b to model a."""
    return spec.compose(spec.invert(found[a]), found[b])


@pytest.mark.parametrize("method", ["weights", "correlation"])
def test_planted_copies_merge_into_the_original_and_cycles_close(method: str) -> None:
    spec, models = trio()
    found = pg.match_many(models, **arguments(method))
    merged = pg.merge_many(models, found)
    for name, value in models[0].state_dict().items():
        torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-5)
    cycle = spec.compose(
        relative(spec, found, 0, 1), spec.compose(relative(spec, found, 1, 2), relative(spec, found, 2, 0))
    )
    assert cycle == spec.identity()
    assert found[0] == spec.identity()
    moved = spec.apply(relative(spec, found, 1, 2), models[2].state_dict())
    for name, value in models[1].state_dict().items():
        torch.testing.assert_close(moved[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["weights", "correlation"])
def test_nested_groups_and_all_else_of_a_transformer(method: str) -> None:
    planted = hubert()
    models = copies(planted.a, planted.spec, count=2 if method == "correlation" else 3)
    shares = [0.5, 0.25, 0.25] if len(models) == 3 else [0.5, 0.5]
    given = {"kwargs": planted.batches[0]} if method == "weights" else {"data": planted.batches[:2]}
    found = pg.match_many(models, spec=planted.spec, **given)
    merged = pg.merge_many(models, found, weights=shares)
    for name, value in planted.a.state_dict().items():
        if name not in planted.spec.unreached:
            torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["weights", "correlation"])
def test_noisy_copies_are_matched_and_the_answer_repeats(method: str) -> None:
    spec, models = trio(noise=0.1)
    one, two = (pg.match_many(models, **arguments(method)) for _ in range(2))
    assert one == two
    for seed in (1, 2):
        assert one[seed] == spec.invert(spec.sample(seed))


def test_two_models_are_matched_as_align_does() -> None:
    _, models = trio(noise=0.1)
    found = pg.match_many(models[:2], args=(vectors()[0],))
    assert found[1] == pg.align(*models[:2], args=(vectors()[0],)).permutations


def test_a_mix_of_two_models_is_that_of_align() -> None:
    _, models = trio(noise=0.5)
    found = pg.match_many(models[:2], vectors(), mix=0.5)
    alone = pg.align(*models[:2], vectors(), mix=0.5)
    assert found[1] == alone.permutations
    for name, gain in alone.gains.items():
        assert found[1].gains[name].solution == pytest.approx(gain.solution, rel=1e-6)


def test_a_mix_finds_planted_copies_and_its_ends_are_the_methods() -> None:
    spec, models = trio(noise=0.1)
    assert pg.match_many(models, vectors(), mix=0.0) == pg.match_many(models, args=(X,))
    assert pg.match_many(models, vectors(), mix=1.0) == pg.match_many(models, vectors())
    for seed, element in enumerate(pg.match_many(models, vectors(), mix=0.5)[1:], 1):
        assert element == spec.invert(spec.sample(seed))


def test_models_of_a_mix_climb_one_objective() -> None:
    """No model alone can be placed better, where weights and correlations are weighed alike for all of them."""
    spec, models = trio(noise=1.0)
    task = Task(Models.of(models), spec, spec.groups, ((X,), {}), Batches(vectors()))
    states = task.states
    terms = correlations(task.models, universe_points(models[0], spec), task.data)
    placed = [match.element for match in universe.match_states(task, terms, 0.5)]
    most = universe.mean_bound(spec, spec.groups, states)

    def height(tables: list[Mapping[str, Index]]) -> float:
        moved = [spec.apply(own, state) for own, state in zip(tables, states, strict=True)]
        value = 0.0
        for a, b in ((0, 1), (0, 2), (1, 2)):
            value += sum(float((moved[a][k].double() * moved[b][k].double()).sum()) for k in moved[a]) / most
            matched = universe.mean_terms(spec.groups, b, [a], terms, tables)
            units = sum(term.weight * term.matrix.shape[0] for term in matched)
            value += objective(spec.groups, matched, tables[b]) / units
        return value

    best = height(placed)
    assert best > height([spec.identity()] * 3)
    for model in (1, 2):
        for name, table in placed[model].items():
            for k in range(len(table) - 1):
                other = table.copy()
                other[[k, k + 1]] = other[[k + 1, k]]
                tables = [*placed]
                tables[model] = {**placed[model], name: other}
                assert height(tables) <= best + 1e-9


def universe_points(model: nn.Module, spec: pg.PermutationSpec) -> list[Point]:
    return find_points(Derivation(capture(model, (X,), {}), "fixed", {}), [group.name for group in spec.groups])


@pytest.mark.parametrize("how", [{"method": "weights"}, {"method": "correlation"}, {"mix": 0.5}])
def test_gains_are_at_the_bound_for_planted_copies_and_below_it_for_others(how: dict[str, object]) -> None:
    for noise in (0.0, 0.5):
        _, models = trio(noise)
        found = pg.match_many(models, vectors(), **how)
        assert not found[0].gains
        for element in found[1:]:
            assert list(element.gains) == [group.name for group in element.spec.groups]
            for gain in element.gains.values():
                assert gain.identity < gain.solution
                reached = gain.solution / gain.bound
                assert reached == pytest.approx(1, abs=1e-5) if not noise else 0.3 < reached < 0.9999


def test_point_weights_are_those_of_align() -> None:
    planted = PLANTED["gpt2"]()
    models = copies(planted.a, planted.spec, count=2, noise=2.0)
    derivation = Derivation(capture(models[0], (), planted.batches[0]), "fixed", {})
    residual = next(group.name for group in planted.spec.groups if group.role == "residual")
    count = sum(residual in point.groups for point in find_points(derivation, [residual]))
    found = []
    for last in (0.0, 1.0):
        weights = {residual: [1.0 - last] * (count - 1) + [last]}
        found.append(pg.match_many(models, planted.batches, point_weights=weights)[1])
        assert found[-1] == pg.align(*models, planted.batches, point_weights=weights).permutations
    assert found[0] != found[1]


def test_only_the_chosen_groups_move() -> None:
    spec, models = trio()
    first = spec.groups[0].name
    for element in pg.match_many(models, args=(vectors()[0],), groups=[first])[1:]:
        assert [name for name, share in element.moved.items() if share] == [first]


def test_an_iterator_of_batches_is_enough_and_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, models = trio(noise=0.1)
    whole = pg.match_many(models, vectors())
    calls = []
    monkeypatch.setattr(portions, "MEMORY", 1)
    parts = pg.match_many(
        models, iter(vectors()), progress=lambda stage, done, total: calls.append((stage, done, total))
    )
    assert whole == parts
    assert ("pairs correlated", 6, 6) in calls


def test_an_iterable_that_goes_on_where_it_was_left_is_read_whole() -> None:
    class Once:
        def __init__(self) -> None:
            self.rest = iter(vectors())

        def __iter__(self):
            return self.rest

    _, models = trio()
    assert pg.match_many(models, Once()) == pg.match_many(models, vectors())


def test_each_round_gains_and_no_other_place_is_better() -> None:
    """No model alone can be placed better: the fixed point of block coordinate ascent."""
    spec, models = trio(noise=1.0)
    task = Task(Models.of(models), spec, spec.groups, ((X,), {}))
    states, tables = task.states, [match.element for match in universe.match_states(task)]
    moved = [spec.apply(own, state) for own, state in zip(tables, states, strict=True)]
    for model in (1, 2):
        others = universe.mean_state([moved[k] for k in range(3) if k != model])
        again = match_weights(spec, spec.groups, others, states[model], start=tables[model])
        assert all(np.array_equal(again.tables[name], tables[model][name]) for name in tables[model])


def test_merge_many_weights_dtypes_and_plain_permutations() -> None:
    spec, models = trio()
    models = [model.half() for model in models]
    identity = [spec.identity()] * 3
    merged = pg.merge_many(models, identity, weights=[0.5, 0.3, 0.2], spec=spec)
    states = [model.state_dict() for model in models]
    expected = 0.5 * states[0]["0.bias"].float() + 0.3 * states[1]["0.bias"].float() + 0.2 * states[2]["0.bias"].float()
    torch.testing.assert_close(merged["0.bias"], expected.half())
    two = pg.merge_many(models[:2], identity[:2], spec=spec, method="slerp")
    assert two["0.bias"].dtype == torch.float16


def test_every_model_that_moves_has_its_certificate() -> None:
    _, models = trio()
    first, *others = pg.match_many(models, args=(X,))
    assert first.certificate is None
    assert all(element.certificate is not None and element.certificate.ok for element in others)


class Tied(nn.Module):
    """Reads and writes through one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(5, 12, bias=False), nn.Linear(5, 12, bias=False)
        self.write.weight = self.read.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.read(x)) @ self.write.weight


@pytest.mark.parametrize("shared", [True, False])
def test_merging_many_keeps_ties_and_makes_none(shared: bool) -> None:
    models = [Tied().eval() for _ in range(3)]
    if not shared:
        for model in models:
            model.write.weight = nn.Parameter(model.read.weight.detach() + 1)
    spec = pg.derive(models[0], (X,))
    merged = pg.merge_many(models, [spec.identity()] * 3, spec=spec)
    assert (merged["read.weight"].data_ptr() == merged["write.weight"].data_ptr()) == shared


def test_an_element_that_fails_its_proof_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, models = trio()
    failed = Certificate(False, 1.0, 1e-8, ("0.units",), 1, 0)
    monkeypatch.setattr(models_compared, "certify", lambda *args, **kwargs: failed)
    with pytest.raises(pg.VerificationError, match=r"model 2 is refused.*0\.units"):
        pg.match_many(models, args=(vectors()[0],))
