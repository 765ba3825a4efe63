"""The dimension of all continuous symmetries is the rank deficit of the Jacobian: nothing else is left to derive."""

from __future__ import annotations

import copy

import pytest
import torch
from deficit_cases import DEFICIT_CASES, DeficitCase, deficit, generic
from torch import Tensor, nn

import permgraph as pg
from permgraph.symmetry.specification.shifts import Shift

CASES = pytest.mark.parametrize("case", DEFICIT_CASES, ids=[case.name for case in DEFICIT_CASES])


@CASES
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_groups_and_shifts_are_all_that_a_model_allows(case: DeficitCase) -> None:
    model, inputs = generic(case)
    spec = pg.derive(model, (inputs[:2],), kinds="all")
    derived = spec.dimension + sum(shift.dimension for shift in spec.shifts)
    assert derived + case.missed == deficit(model, inputs, spec.held), [str(shift) for shift in spec.shifts]


@CASES
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_what_is_ignored_may_be_added(case: DeficitCase) -> None:
    model, inputs = generic(case)
    before = model(inputs)
    for shift in pg.derive(model, (inputs[:2],), kinds="all").shifts:
        if all(reason.endswith("ignores it") for reason in shift.reasons):
            changed = copy.deepcopy(model)
            parameter = changed.get_parameter(shift.tensor)
            parameter.data = shifted(parameter.data, shift)
            after = changed(inputs)
            torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


def shifted(tensor: Tensor, shift: Shift) -> Tensor:
    moved = tensor.clone()
    part = moved[slice(*map(int, shift.part.split(":")))] if shift.part else moved
    part += torch.randn([1 if dim in shift.along else size for dim, size in enumerate(part.shape)], dtype=part.dtype)
    return moved


def test_shifts_are_listed_with_their_reasons() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3)).eval()
    spec = pg.derive(model, torch.randn(2, 5), kinds="all")
    assert [str(shift) for shift in spec.shifts] == ["2.bias: 4 numbers: 3.bias takes it back"]
    assert "in addition to the groups, 4 numbers may be added (`spec.shifts`) to 2.bias" in str(spec)
    assert pg.PermutationSpec.from_json(spec.to_json()).shifts == spec.shifts
    assert not pg.derive(model, torch.randn(2, 5)).shifts


def test_a_shift_names_the_part_that_may_move() -> None:
    model, inputs = generic(next(case for case in DEFICIT_CASES if case.name == "attention written out"))
    shifts = pg.derive(model, (inputs[:2],), kinds="all").shifts
    assert [(shift.tensor, shift.part, shift.dimension) for shift in shifts] == [
        ("qkv.bias", "4:8", 4),
        ("qkv.bias", "8:12", 4),
    ]
