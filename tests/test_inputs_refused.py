"""Models and inputs that come to nothing: told by what differs, where, and what to give instead."""

import pytest
import torch
from pairs import mlp, vectors
from torch import nn

import permgraph as pg
from permgraph.errors import CalibrationError, PermgraphError, SpecMismatchError, VerificationError
from permgraph.tracing.capture import capture
from permgraph.tracing.run import bind


class Once:
    """Batches that are there when they are first asked for, and no more."""

    def __init__(self):
        self.batches = iter(vectors(1))

    def __iter__(self):
        yield from self.batches


class OtherPath(nn.Module):
    """Takes another way through its layers where a batch is long."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.first(x)
        return self.last(hidden.relu() if len(x) > 4 else hidden.tanh())


class Flat(nn.Module):
    """Channels and positions in one axis, of whatever length."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv1d(1, 8, 1), nn.Linear(1, 3)

    def forward(self, x):
        return self.last(self.first(x).relu().flatten(1).square().mean(1, keepdim=True))


class Scaled(nn.Module):
    """A constant that is neither a parameter nor a buffer."""

    def __init__(self, scale):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.scale = torch.tensor([scale])

    def forward(self, x):
        return self.last(self.first(x).relu() * self.scale)


class NoNumber(nn.Module):
    """An output that is nowhere finite."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return (-1 - self.layer(x).square()).log()


def two(build):
    torch.manual_seed(0)
    return build().eval(), build().eval()


def bound(*args, **kwargs):
    return lambda: bind(capture(mlp(), (torch.ones(2, 5),)), args, kwargs)


EMPTY = "calibration data is empty: give at least one batch"
SPEC = pg.derive(mlp(), (torch.ones(2, 5),))
REFUSED = {
    "many models, data gone": (lambda: pg.match_many([*two(mlp), mlp().eval()], Once()), CalibrationError, EMPTY),
    "another path": (
        lambda: pg.align(*two(OtherPath), [torch.randn(30, 5), torch.randn(3, 5)]),
        CalibrationError,
        "another path on a batch of another shape: give calibration batches of one shape",
    ),
    "another length": (
        lambda: pg.align(*two(Flat), [torch.randn(30, 1, 7), torch.randn(30, 1, 9)]),
        CalibrationError,
        r"square has shape \(30, 72\) on this batch, \(30, 56\) before; give batches of one shape",
    ),
    "another constant": (
        lambda: pg.align(Scaled(1.0).eval(), Scaled(2.0).eval(), vectors()),
        SpecMismatchError,
        "differ in the constant .*scale: align two models of one configuration",
    ),
    "nothing finite": (
        lambda: pg.verify(NoNumber().eval(), (torch.ones(2, 5),)),
        VerificationError,
        "the output output is not finite anywhere: check the example inputs",
    ),
    "too many outputs": (
        lambda: SPEC.apply_outputs(SPEC.identity(), [torch.ones(2, 3)] * 2),
        SpecMismatchError,
        "2 outputs given, the specification knows 1: output; give what the model returned",
    ),
    "other inputs": (bound(torch.ones(2, 5), mask=None), SpecMismatchError, "differ from those .*: .*trace it with"),
    "inputs of another structure": (bound([torch.ones(2, 5)]), SpecMismatchError, "give the same arguments"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    call, error, message = REFUSED[name]
    with pytest.raises(PermgraphError, match=message) as raised:
        call()
    assert type(raised.value) is error
