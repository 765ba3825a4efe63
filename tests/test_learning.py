"""The element of a symmetry group that is learned on unlabelled data, which keeps B's function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from kind_cases import KIND_CASES, SEQUENCE, KindCase, change
from learning_cases import CPU, Planted, halfway, near, planted
from torch import Tensor, nn

import permgraph as pg
from permgraph.comparing.batches import Batches
from permgraph.comparing.calibration import Calibration
from permgraph.comparing.models import Models
from permgraph.learning.coordinates import Coordinates
from permgraph.learning.descent import descend
from permgraph.learning.element import learn
from permgraph.learning.placing import Placed
from permgraph.symmetry.elements import parts

CASES = pytest.mark.parametrize("case", KIND_CASES, ids=[case.name for case in KIND_CASES])


def derived(case: KindCase) -> tuple[nn.Module, pg.PermutationSpec]:
    torch.manual_seed(0)
    model = case.build().double().eval()
    return model, pg.derive(model, case.inputs, kinds="all")


def test_larger_matrices_are_learned_in_smaller_steps() -> None:
    spec = pg.derive(
        nn.Sequential(nn.Linear(5, 32), nn.Linear(32, 128), nn.Linear(128, 3)).double().eval(), (SEQUENCE,), kinds="all"
    )
    paces = Coordinates(spec.groups, CPU, torch.float64).paces
    found = {spec[name].size: pace for name, pace in paces.items()}
    assert found == {32: 2.0, 128: 0.5}


@CASES
def test_coordinates_give_elements_of_every_kind(case: KindCase) -> None:
    _, spec = derived(case)
    still, moved = near(spec, 0.0), near(spec, 1.0)
    assert set(moved) == {group.name for group in spec.groups if group.dimension}
    for name, part in moved.items():
        group = spec[name]
        assert parts.problem(group.kind, group.table_shape, part) == ""
        assert parts.moved(part) > 0.5
        assert still[name] == group.identity()


@CASES
def test_what_is_differentiated_is_what_the_specification_applies(case: KindCase) -> None:
    model, spec = derived(case)
    state, delta = model.state_dict(), near(spec, 0.5)
    placed = Placed(spec, state, delta)
    wanted = spec.apply(delta, state)
    for name in state:
        torch.testing.assert_close(placed(delta, name), wanted[name], rtol=1e-12, atol=1e-12)


@CASES
def test_gradients_are_those_of_finite_differences(case: KindCase) -> None:
    model, spec = derived(case)
    state, coordinates = model.state_dict(), Coordinates(spec.groups, CPU, torch.float64)
    placed, weights = Placed(spec, state, coordinates.groups), {n: torch.randn_like(t) for n, t in state.items()}

    def sums(*x: Tensor) -> Tensor:
        coordinates.tensors = dict(zip(coordinates.tensors, x, strict=True))
        element = coordinates.element()
        return torch.stack([(placed(element, name) * weight).sum() for name, weight in weights.items()]).sum()

    x = [torch.randn_like(t).requires_grad_() for t in coordinates.tensors.values()]
    if x:
        assert torch.autograd.gradcheck(sums, x)


def test_learning_finds_the_way_back_and_keeps_the_function() -> None:
    pair = planted()
    found = pair.learned(steps=150, rate=1e-2)
    assert halfway(pair, found.permutations) < 0.1 * halfway(pair, pair.spec.identity())
    assert change(pair.other.double(), (SEQUENCE,), pair.spec, found.permutations) < 1e-12


def test_learning_is_deterministic_and_goes_on_from_an_element() -> None:
    pair = planted()
    one, again, other = (pair.learned(steps=5, seed=seed) for seed in (0, 0, 1))
    assert one.permutations == again.permutations
    assert one.permutations != other.permutations
    calibration = Calibration(Models.of((pair.model, pair.other)), Batches.of(pair.batches))
    more = learn(calibration, pair.spec, one.permutations, steps=40)
    assert halfway(pair, more.permutations) < halfway(pair, one.permutations)


def test_learning_leaves_models_alone_and_tells_of_its_steps() -> None:
    pair, seen = planted(), []
    before = copy.deepcopy(pair.model.state_dict())
    calibration = Calibration(Models.of((pair.model, pair.other)), Batches.of(pair.batches), lambda *x: seen.append(x))
    learn(calibration, pair.spec, pair.spec.identity(), steps=3)
    assert seen == [("learning", k, 3) for k in (1, 2, 3)]
    assert all(torch.equal(before[name], tensor) for name, tensor in pair.model.state_dict().items())
    assert all(p.grad is None for model in (pair.model, pair.other) for p in model.parameters())


def test_only_the_groups_asked_for_are_learned() -> None:
    pair = planted()
    group = next(group for group in pair.spec.groups if group.kind == "centred")
    found = pair.learned(steps=2, groups=[group]).permutations
    assert {name for name, share in found.moved.items() if share} == {group.name}


def test_a_group_of_permutations_has_nothing_to_learn() -> None:
    model = KIND_CASES[2].build().eval().double()
    spec, state = pg.derive(model, KIND_CASES[2].inputs), model.state_dict()
    calibration = Calibration(Models.of((model, copy.deepcopy(model))), Batches.of([KIND_CASES[2].inputs]))
    found = learn(calibration, spec, spec.sample(0), steps=2)
    assert found.descent is None
    assert found.permutations == spec.sample(0)
    assert state.keys() == spec.shapes.keys()


def test_models_in_half_precision_are_learned_in_single() -> None:
    found = planted(dtype=torch.bfloat16).learned(steps=3)
    assert found.descent is not None
    assert all(torch.isfinite(x).all() for x in found.descent.x.values())


def test_a_batch_held_out_decides() -> None:
    pair = planted(count=12)
    found = pair.learned(steps=40, rate=1e-2).descent
    assert found is not None
    losses = [loss for _, loss in found.held_out]
    assert [step for step, _ in found.held_out] == list(range(0, 41, 2))
    assert min(losses) < losses[0]
    diverging = pair.learned(steps=200, rate=1.0).descent
    assert diverging is not None
    assert len(diverging.losses) < 200
    assert not any(x.any() for x in diverging.x.values())  # nothing was better than the start


@pytest.mark.parametrize(("samples", "rate"), [(1, 2e-2 * 6 / 128), (16, 2e-2 * 96 / 128), (32, 2e-2)])
def test_small_batches_are_learned_from_in_small_steps(
    samples: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, seen = planted(), []
    monkeypatch.setattr(
        "permgraph.learning.element.descend", lambda *args, **options: seen.append(options) or descend(*args, **options)
    )
    batches = torch.cat([*pair.batches]).split(samples)
    found = Planted(pair.model, pair.other, pair.spec, batches).learned(steps=2).descent
    assert [one["rate"] for one in seen] == [pytest.approx(rate)]
    assert found is not None
    assert len(found.losses) == 2


def test_several_small_batches_judge() -> None:
    samples = [sample for batch in planted(count=8).batches for sample in batch.split(1)]
    first, ends = Batches.of(samples), Batches.of(samples[:9])
    assert [len(first.ending(11, 10)), len(first.ending(20, 10)), len(ends.ending(1, 10))] == [11, 12, 0]
    assert first.ending(1, 10)[0][0][0] is samples[-1]


def test_a_stream_is_read_as_far_as_the_steps_go() -> None:
    pair, read = planted(), []

    def stream() -> Iterator[Tensor]:
        for batch in pair.batches * 5:
            read.append(1)
            yield batch

    calibration = Calibration(Models.of((pair.model, pair.other)), Batches.of(stream()))
    learn(calibration, pair.spec, pair.spec.identity(), steps=7)
    assert len(read) == 7
    calibration = Calibration(Models.of((pair.model, pair.other)), Batches.of(iter(pair.batches)))
    with pytest.raises(pg.CalibrationError, match="ended after 4 of 5 steps and cannot be read again"):
        learn(calibration, pair.spec, pair.spec.identity(), steps=5)


def test_a_loss_that_is_not_finite_is_told_of() -> None:
    with pytest.raises(pg.CalibrationError, match="the loss is nan at step 1 of learning: try a lower rate"):
        planted().learned(steps=1, loss=lambda outputs, batch: outputs.sum() * float("nan"))


def test_a_loss_without_gradient_is_told_of() -> None:
    with pytest.raises(pg.OptionError, match="learning follows the gradient of the loss, which cannot be computed"):
        planted().learned(steps=1, loss=lambda outputs, batch: outputs.detach().sum())


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d, lambda n: nn.InstanceNorm2d(n, affine=True, track_running_stats=True)]
)
def test_running_statistics_are_scaled_with_the_channels(norm: Callable[[int], nn.Module]) -> None:
    a, b = (nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval() for _ in range(2))
    found = pg.align(a, b, [torch.randn(8, 3, 6, 6)], kinds="all", method="learned", steps=2)
    assert found.certificate
    assert "scaled" in {group.kind for group in found.spec.groups}


def test_a_loss_of_the_user_sees_outputs_and_batch() -> None:
    pair, seen = planted(), []

    def loss(outputs: Tensor, batch: Tensor) -> Tensor:
        seen.append((outputs.shape, batch.shape))
        return outputs.square().mean()

    pair.learned(steps=1, loss=loss)
    assert seen == [((16, 6, 3), (16, 6, 5))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps, the number of batches to learn from, must be at least 1, not 0"),
        ({"steps": 1, "rate": 0.0}, "rate, the learning rate of Adam, must be above 0, not 0.0"),
        ({"steps": 1, "loss": "labels"}, "loss is one of logits, features, or a function, not 'labels'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    pair = planted()
    with pytest.raises(pg.OptionError, match=message):
        pair.learned(**options)
    with pytest.raises(pg.OptionError, match=message):
        pg.heal(pair.model.state_dict(), pair.model, pair.other, pair.batches, **options)
