"""verify: right groups pass, wrong ones are named, and inputs that prove nothing are refused."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from pairs import PLANTED, mlp, vectors
from torch import nn

import permgraph as pg
from permgraph.symmetry.elements.layout import Layout


def without(spec: pg.PermutationSpec, name: str) -> pg.PermutationSpec:
    """A wrong specification: nothing moves on the parameter `name`."""
    still = Layout(
        spec.layouts[name].shape, tuple(dataclasses.replace(cell, moves=()) for cell in spec.layouts[name].cells)
    )
    return dataclasses.replace(spec, layouts={**spec.layouts, name: still})


@pytest.mark.parametrize("name", PLANTED)
def test_derived_groups_are_certified(name: str) -> None:
    planted = PLANTED[name]()
    first = planted.batches[0]
    args, kwargs = ((), first) if isinstance(first, dict) else ((first,), {})
    certificate = pg.verify(planted.a, args, kwargs, trials=1)
    assert certificate.ok
    assert certificate.max_error < 1e-11
    assert "unchanged" in str(certificate)


def test_a_wrong_group_is_named_alone() -> None:
    model = mlp()
    spec = pg.derive(model, (vectors()[0],))
    certificate = pg.verify(model, (vectors()[0],), spec=without(spec, "4.weight"), trials=1)
    assert not certificate.ok
    guilty = [group.name for group in spec.groups if ("4.weight", 1) in group.axes]
    assert list(certificate.failing) == guilty
    assert guilty[0] in str(certificate)


def test_a_bias_of_zero_hides_nothing() -> None:
    model = mlp()
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.bias)
    spec = pg.derive(model, (vectors()[0],))
    assert not pg.verify(model, (vectors()[0],), spec=without(spec, "0.bias"), trials=1).ok


def test_running_statistics_hide_nothing() -> None:
    model = nn.Sequential(nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 2, 3)).eval()
    x = torch.randn(2, 2, 12)
    spec = pg.derive(model, (x,))
    for name in ("1.running_mean", "1.running_var", "1.weight", "1.bias"):
        assert not pg.verify(model, (x,), spec=without(spec, name), trials=1).ok, name


def test_a_specification_of_another_model_is_refused() -> None:
    with pytest.raises(pg.SpecMismatchError, match="model"):
        pg.verify(mlp(), (vectors()[0],), spec=pg.derive(mlp(13), (vectors()[0],)))


def test_inputs_on_meta_are_refused() -> None:
    with pytest.raises(pg.VerificationError, match="meta"):
        pg.verify(mlp().to("meta"), (vectors()[0].to("meta"),))


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(pg.CaptureError, match="eval"):
        pg.verify(mlp().train(), (vectors()[0],))


class Branching(nn.Module):
    """A linear, a branch on a value, a linear."""

    def __init__(self, decides: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.decides, self.enter, self.leave = decides, nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("mask", torch.eye(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.enter(x))
        return self.leave(h if self.decides(self, x, h) else h * h)


@pytest.mark.parametrize("sign", [1, -1], ids=["taken", "not taken"])
@pytest.mark.parametrize("decides", [lambda m, x, h: x.sum() > 0, lambda m, x, h: (m.mask * x[0, 0]).trace() > 0])
def test_a_branch_that_the_inputs_decide_is_traced_as_they_decide(sign, decides) -> None:
    model, x = Branching(decides).eval(), sign * torch.rand(3, 4)
    spec = pg.derive(model, (x,))
    assert [group.size for group in spec.groups] == [6]
    moved = Branching(decides).eval()
    moved.load_state_dict(spec.apply(spec.sample(0), model.state_dict()))
    assert torch.allclose(moved(x), model(x), atol=1e-5)
    assert pg.verify(model, (x,)).ok


@pytest.mark.parametrize(
    "decides",
    [lambda m, x, h: m.enter.weight.sum() > 0, lambda m, x, h: h[0, 0] > 0.1, lambda m, x, h: h.argmax(1)[0] == 2],
    ids=["weight", "unit", "position"],
)
def test_a_branch_that_the_weights_decide_is_refused(decides, capfd) -> None:
    with pytest.raises(
        pg.CaptureError, match=r"in tests/test_verification\.py:\d+ depends on the values .*make it static"
    ):
        pg.derive(Branching(decides).eval(), (torch.rand(3, 4),))
    assert capfd.readouterr() == ("", "")


def test_a_branch_on_values_cannot_be_taken_on_meta() -> None:
    with pytest.raises(pg.CaptureError, match="give the model with its weights"):
        pg.derive(Branching(lambda m, x, h: x.sum() > 0).eval().to("meta"), (torch.rand(3, 4),))


def test_wrong_inputs_are_refused_with_the_signature() -> None:
    with pytest.raises(pg.CaptureError, match="Sequential"):
        pg.derive(mlp(), (torch.randn(2, 4),))


def test_weights_that_are_not_finite_are_named() -> None:
    model = mlp()
    with torch.no_grad():
        model[2].bias[1] = float("nan")
    with pytest.raises(pg.CheckpointError, match=r"2\.bias"):
        pg.verify(model, (vectors()[0],))


def test_a_model_that_writes_to_its_buffers_is_left_alone() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()
            self.register_buffer("calls", torch.zeros((), dtype=torch.long))
            self.register_buffer("mean", torch.zeros(12))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            hidden = self.net[1](self.net[0](x))
            self.mean.add_(hidden.mean(0))
            return self.net[2:](hidden - self.mean)

    model = Counting().eval()
    assert pg.verify(model, (vectors()[0],), trials=1).ok
    assert int(model.calls) == 0
    assert not model.mean.any()


def test_a_compiled_model_keeps_its_names() -> None:
    compiled = torch.compile(mlp())
    spec = pg.derive(compiled, (vectors()[0],))
    assert ("_orig_mod.0.weight", 0) in spec.groups[0].axes
    spec.apply(spec.sample(0), compiled.state_dict())


def test_parameters_called_like_operations_and_inputs() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x, self.linear, self.add = (nn.Parameter(torch.randn(6)) for _ in range(3))
            self.weight, self.mul = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(2, 6))
            self.split = nn.ParameterList([torch.randn(3), torch.randn(3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = nn.functional.linear(x, self.weight, self.linear) * self.x + self.add
            left, right = hidden.split(3, dim=-1)
            return torch.cat([left + self.split[0], right * self.split[1]], dim=-1) @ self.mul.T

    model = Named().eval()
    spec = pg.derive(model, (vectors()[0],))
    assert pg.verify(model, (vectors()[0],), spec=spec).ok
    assert sorted(group.size for group in spec.groups) == [3, 3]
    assert {name for group in spec.groups for name, _ in group.axes} == {*spec.parameters}
