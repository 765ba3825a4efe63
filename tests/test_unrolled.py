"""The work to derive is linear in what a loop unrolls: twice the steps, twice the calls."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType

import pytest
import torch
from torch import Tensor, nn

from permgraph import derive
from permgraph.errors import OptionError
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.tracing.capture import capture

STEPS = 24
MOST = 2.2
BETWEEN = 2  # the parts of a derivation


class Unrolled(nn.Module):
    """A loop over the steps of a sequence, or over the rows of a stack of weights, written out by the trace."""

    def __init__(self, how: Callable[[Unrolled, Tensor], Tensor], steps: int) -> None:
        super().__init__()
        self.how, self.steps = how, steps
        self.inner, self.recurrent, self.outer = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.rows = nn.Parameter(torch.randn(steps, 8))

    def step(self, h: Tensor, u: Tensor) -> Tensor:
        return torch.tanh(self.recurrent(h) + u)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.how(self, self.inner(x)))


def scanned(net: Unrolled, u: Tensor) -> Tensor:
    h, found = torch.zeros(2, 8), []
    for t in range(net.steps):
        found.append(h := net.step(h, u[:, t]))
    return torch.stack(found, 1)


def scanned_twice(net: Unrolled, u: Tensor) -> Tensor:
    return scanned(net, scanned(net, u))


def scanned_unbound(net: Unrolled, u: Tensor) -> Tensor:
    h, found = torch.zeros(2, 8), []
    for step in u.unbind(1):
        found.append(h := net.step(h, step))
    return torch.stack(found, 1)


def joined(net: Unrolled, u: Tensor) -> Tensor:
    h, found = torch.zeros(2, 1, 8), []
    for t in range(net.steps):
        found.append(h := net.step(h, u[:, t : t + 1]))
    return torch.cat(found, 1)


def written(net: Unrolled, u: Tensor) -> Tensor:
    h, y = torch.zeros(2, 8), torch.zeros(2, net.steps, 8)
    for t in range(net.steps):
        y[:, t] = h = net.step(h, u[:, t])
    return y


def by_rows(net: Unrolled, u: Tensor) -> Tensor:
    for t in range(net.steps):
        u = torch.tanh(u * net.rows[t])
    return u


def calls(work: Callable[[], object]) -> int:
    """How many functions of the package a piece of work calls."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and "permgraph" in frame.f_code.co_filename

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def work(how: Callable[[Unrolled, Tensor], Tensor], steps: int) -> int:
    """How many calls it takes to derive the group of a traced loop."""
    program = capture(Unrolled(how, steps).eval(), torch.randn(2, steps, 5))
    return calls(lambda: Derivation(program, "fixed", {}).spec)


LOOPS = (scanned, scanned_twice, scanned_unbound, joined, written, by_rows)


@pytest.mark.parametrize("how", LOOPS)
def test_twice_the_steps_take_twice_the_work(how):
    assert work(how, 2 * STEPS) < MOST * work(how, STEPS)


@pytest.mark.parametrize("how", LOOPS)
def test_every_step_shares_the_units(how):
    spec = derive(Unrolled(how, STEPS).eval(), torch.randn(2, STEPS, 5))
    assert [group.size for group in spec.groups] == [8]


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_meanwhile_and_the_setting_is_restored(enabled):
    program = capture(Unrolled(scanned, STEPS).eval(), (torch.randn(2, STEPS, 5),), {})
    looked: list[str] = []

    def look(phase: str, info: dict[str, int]) -> None:
        looked.append(phase)

    before = gc.isenabled()
    gc.callbacks.append(look)
    (gc.enable if enabled else gc.disable)()
    try:
        assert Derivation(program, "fixed", {}).spec.groups
        assert looked.count("start") <= BETWEEN
        assert gc.isenabled() is enabled
        with pytest.raises(OptionError):
            Derivation(program, "none", {})
        assert gc.isenabled() is enabled
    finally:
        gc.callbacks.remove(look)
        (gc.enable if before else gc.disable)()
