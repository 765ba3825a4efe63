"""The proof sees wrong groups wherever they show, and does not take rounding for one."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import permgraph as pg
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.moving import moving_elements
from permgraph.symmetry.elements.permutations import PermutationGroup

LOWEST = float(torch.finfo(torch.float32).min)


def without(spec: pg.PermutationSpec, name: str) -> pg.PermutationSpec:
    """A wrong specification: nothing moves on the parameter `name`."""
    still = Layout(
        spec.layouts[name].shape, tuple(dataclasses.replace(cell, moves=()) for cell in spec.layouts[name].cells)
    )
    return dataclasses.replace(spec, layouts={**spec.layouts, name: still})


class Net(nn.Module):
    """A linear, a GELU, a linear, and what is made of the result, the hidden units and the input."""

    def __init__(self, then, hidden=8):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.then = nn.Linear(5, hidden), nn.Linear(hidden, 4), then
        self.register_buffer("first", torch.tensor([True, False, False, False]), persistent=False)

    def forward(self, x):
        h = nn.functional.gelu(self.a(x))
        return self.then(self, self.b(h), h, x)


def cancelled(h):
    """Zero up to rounding, which depends on the order of the units."""
    return (h - h.mean(-1, keepdim=True)).sum(-1)


BESIDE = {
    "a filled logit": lambda net, y, h, x: y.masked_fill(net.first, LOWEST),
    "an added mask": lambda net, y, h, x: y + net.first * LOWEST,
    "a forbidden logit": lambda net, y, h, x: y + net.first * -1e9,
    "minus infinity": lambda net, y, h, x: y.masked_fill(net.first, -torch.inf),
    "filled by value": lambda net, y, h, x: y.masked_fill(y < 0.2, LOWEST),
    "nothing by value": lambda net, y, h, x: y.masked_fill(y < 0.2, -torch.inf),
    "a coordinate of the input": lambda net, y, h, x: torch.cat([y, 1e12 * x**2], -1),
    "a large output": lambda net, y, h, x: (y, 1e30 * net.b.weight.sum() * x),
    "a large column": lambda net, y, h, x: y * torch.tensor([1.0, 1.0, 1.0, 1e20]),
    "a constant output": lambda net, y, h, x: (y, torch.ones(3), None, 7),
    "a complex output": lambda net, y, h, x: torch.complex(x[:, :4], y),
    "a complex product": lambda net, y, h, x: (y.to(torch.complex64) @ torch.eye(4, dtype=torch.complex64)).real,
    "rounding": lambda net, y, h, x: (y, cancelled(h)),
    "sums that are one": lambda net, y, h, x: (y, y.softmax(-1).sum(-1)),
    "an integer": lambda net, y, h, x: (y > 0).sum(-1),
}


@pytest.mark.parametrize("then", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("trials", [1, 3])
def test_a_wrong_group_is_seen_beside(then, trials):
    model, x = Net(then).eval(), torch.randn(40, 5)
    spec = pg.derive(model, (x,))
    assert spec.groups[0].size == 8
    right = pg.verify(model, (x,), spec=spec, trials=trials)
    assert right
    assert right.max_error == max(right.errors.values()) < 1e-9
    for name in ("a.weight", "a.bias", "b.weight"):
        wrong = pg.verify(model, (x,), spec=without(spec, name), trials=trials)
        assert not wrong
        assert spec.groups[0].name in wrong.failing


def test_every_output_has_an_error_of_its_own():
    model, x = Net(lambda net, y, h, x: {"same": net.a(x).sum(-1), "other": y}).eval(), torch.randn(4, 5)
    found = pg.verify(model, (x,), spec=without(pg.derive(model, (x,)), "b.weight"))
    assert list(found.errors) == ["['same']", "['other']"]
    assert found.errors["['same']"] < 1e-12 < 1e-3 < found.errors["['other']"] == found.max_error
    assert found.inputs == (("args[0]", (4, 5)),)


def test_wrong_groups_of_two_units_are_seen_at_every_seed():
    model, x = nn.Sequential(nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 3)).eval(), torch.randn(4, 5)
    spec = without(pg.derive(model, x), "2.weight")
    assert not any(pg.verify(model, x, spec=spec, trials=1, seed=seed) for seed in range(20))


@pytest.mark.parametrize("size", [2, 3, 4, 9])
def test_units_that_move_together_are_not_taken_for_two_groups(size):
    model, x = nn.Sequential(nn.Linear(5, size), nn.ReLU(), nn.Linear(size, 3)).eval(), torch.randn(4, 5)
    spec = pg.derive(model, x)
    one, other = spec.groups[0], dataclasses.replace(spec.groups[0], name="other")
    cells = tuple(
        dataclasses.replace(cell, moves=tuple(dataclasses.replace(move, group="other") for move in cell.moves))
        for cell in spec.layouts["2.weight"].cells
    )
    split = {**spec.layouts, "2.weight": Layout(spec.layouts["2.weight"].shape, cells)}
    wrong = dataclasses.replace(spec, groups=(one, other), layouts=split)
    for seed in range(10):
        failing = pg.verify(model, x, spec=wrong, seed=seed).failing
        assert set(failing) == {one.name, "other"} if size > 3 else failing


@pytest.mark.parametrize("seed", range(5))
def test_elements_of_a_proof_move_every_row(seed):
    groups = [PermutationGroup(f"{n}", n, ("outer",), (), "other", (count,)) for n, count in [(2, 5), (3, 4), (6, 2)]]
    elements = moving_elements(groups, seed, 3)
    assert len(elements) == 4  # nine small rows
    assert len(moving_elements(groups[2:], seed, 3)) == 3
    rows = [[tuple(element[group.name][row]) for element in elements] for group in groups for row in range(group.count)]
    for row in rows:
        still = tuple(range(len(row[0])))
        assert any(table != still for table in row)
        assert all(sorted(table) == list(still) for table in row)
    sets = [tuple(table != tuple(range(len(table))) for table in row) for row in rows if len(row[0]) < 4]
    assert len(set(sets)) == len(sets)
    assert all((element["6"] != np.arange(6)).all() for element in elements)


def test_no_trial_is_no_proof():
    for trials in (0, -1):
        with pytest.raises(pg.OptionError, match=f"at least 1, not {trials}"):
            pg.verify(Net(lambda net, y, h, x: y).eval(), (torch.randn(4, 5),), trials=trials)


def test_an_operation_that_needs_float32_is_named():
    model = Net(lambda net, y, h, x: y.view(torch.int32)).eval()
    with pytest.raises(pg.VerificationError, match=r"aten\.view .*test_proof\.py:\d+.* cannot be computed in float64"):
        pg.verify(model, (torch.randn(4, 5),))


def test_a_mask_that_is_a_parameter_fills_as_a_constant_does():
    model = Net(lambda net, y, h, x: y.masked_fill(net.mask, LOWEST))
    model.mask = nn.Parameter(torch.tensor([True, False, False, False]), requires_grad=False)
    x = torch.randn(4, 5)
    spec = pg.derive(model.eval(), (x,))
    assert pg.verify(model, (x,), spec=spec)
    assert not pg.verify(model, (x,), spec=without(spec, "b.weight"))
