"""No random program may have an unsound group; a failing one is cut down to the fewest steps that still fail."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from judge import error, generic
from random_programs import OPERATIONS, Step, build
from zoo_rows import Case

from permgraph import derive

QUICK, ALL = 75, 20_000
NOISE = (
    1e-9  # of the output: a group that changes more is unsound, and a program of which rounding changes more is none
)

STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), *[st.integers(0, most) for most in (3, 11, 11)]),
    min_size=2,
    max_size=10,
)
QUIETLY = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": False}


def is_rounding(case: Case) -> bool:
    """Whether the output follows the last bits of the parameters, or is not finite, so that it tells nothing."""
    model, x = generic(case.model, 0), case.args[0].double()
    with torch.no_grad():
        before = model(x)
        for parameter in model.parameters():
            parameter.mul_(1 + 2.0**-50 * torch.randn(parameter.shape, dtype=torch.float64))
        after = model(x)
    return not bool(((after - before).abs().max() < NOISE / 100 * before.abs().max()).item())


def require_sound(steps: list[Step], kinds: str) -> None:
    case = build(steps)
    if not is_rounding(case):
        assert error(case, derive(case.model, case.args, kinds=kinds), 0) < NOISE


@pytest.mark.parametrize(
    ("kinds", "count"),
    [
        ("permutation", QUICK),
        ("all", QUICK // 3),
        pytest.param("permutation", ALL, marks=pytest.mark.slow),
        pytest.param("all", ALL // 4, marks=pytest.mark.slow),
    ],
)
def test_groups_are_sound(kinds: str, count: int) -> None:
    @settings(max_examples=count, derandomize=count < ALL // 4, **QUIETLY)
    @given(STEPS)
    def sound(steps: list[Step]) -> None:
        require_sound(steps, kinds)

    sound()


def test_the_judge_sees_a_wrong_group() -> None:
    """That of a program with another operation in one place."""
    cumsum, softmax = build([("normed", 0, 0, 2)]), build([("normed", 0, 0, 1)])
    assert error(cumsum, derive(softmax.model, softmax.args), 0) > 1e-3
    assert not is_rounding(cumsum)


def test_a_program_of_which_nothing_is_left_tells_nothing() -> None:
    """A value less itself, and its layer norm."""
    assert is_rounding(build([("binary", 0, 0, 2), ("normed", 0, 0, 0)]))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_met(name: str) -> None:
    """Each makes a value on its own, after a split, or after a layer of weights."""
    before: list[list[Step]] = [[], [("split", 0, 0, 1)], [("linear", 0, 3, 0)]]
    choices = [[*steps, (name, 0, a, b)] for steps in before for a in range(2) for b in range(4)]
    assert any(name in build(steps).model.met for steps in choices)
