"""Signs, scales, rotations and invertible maps: derived, sound, and a group."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kind_cases import KIND_CASES, KindCase, change
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import permgraph as pg
from permgraph.algebra.kinds import Kind
from permgraph.symmetry.elements import parts

CASES = pytest.mark.parametrize("case", KIND_CASES, ids=[case.name for case in KIND_CASES])


def derived(case: KindCase, kinds: str = "all") -> tuple[torch.nn.Module, pg.PermutationSpec]:
    torch.manual_seed(0)
    model = case.build().double().eval()
    return model, pg.derive(model, case.inputs, kinds=kinds)


@CASES
def test_the_kinds_of_a_model_are_those_of_its_operations(case: KindCase) -> None:
    _, spec = derived(case)
    assert {(g.kind, g.size, g.count) for g in spec.groups} == case.groups
    assert spec.dimension == case.dimension


@CASES
def test_elements_of_all_kinds_keep_the_function(case: KindCase) -> None:
    model, spec = derived(case)
    for seed in range(3):
        assert change(model, case.inputs, spec, spec.sample(seed)) < 1e-12


@CASES
def test_signed_is_the_discrete_part(case: KindCase) -> None:
    model, spec = derived(case, "signed")
    assert spec.dimension == 0
    assert {g.kind for g in spec.groups} <= {"permutation", "signed"}
    assert change(model, case.inputs, spec, spec.sample(0)) < 1e-12


@CASES
def test_elements_form_a_group_that_acts(case: KindCase) -> None:
    model, spec = derived(case)
    p, q, state = spec.sample(0), spec.sample(1), model.state_dict()
    together, apart = spec.apply(spec.compose(p, q), state), spec.apply(p, spec.apply(q, state))
    back = spec.apply(spec.invert(p), spec.apply(p, state))
    for name, tensor in state.items():
        torch.testing.assert_close(together[name], apart[name], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(back[name], tensor, rtol=1e-10, atol=1e-12)


@CASES
def test_a_specification_of_all_kinds_survives_json(case: KindCase) -> None:
    model, spec = derived(case)
    again = pg.PermutationSpec.from_json(spec.to_json())
    assert again.groups == spec.groups
    assert again.held == spec.held
    moved, same = (one.apply(spec.sample(0), model.state_dict()) for one in (spec, again))
    assert all(torch.equal(moved[name], same[name]) for name in moved)


@CASES
def test_all_kinds_are_proved(case: KindCase) -> None:
    model, spec = derived(case)
    assert pg.verify(model, case.inputs, spec=spec).ok


def test_the_kinds_are_a_lattice() -> None:
    for a in Kind:
        for b in Kind:
            meet = a.meet(b)
            assert meet.within(a)
            assert meet.within(b)
            assert all(c.within(meet) for c in Kind if c.within(a) and c.within(b))


def test_kinds_that_are_not_known_are_refused() -> None:
    with pytest.raises(pg.OptionError, match="kinds is one of permutation, signed, all"):
        pg.derive(KIND_CASES[0].build().eval(), KIND_CASES[0].inputs, kinds="rotations")


@CASES
def test_outputs_of_another_batch_move_alike(case: KindCase) -> None:
    """With free outputs f(πθ) = π f(θ) holds for more samples than were traced, and for one."""
    torch.manual_seed(0)
    model = case.build().double().eval()
    spec = pg.derive(model, case.inputs, kinds="all", outputs="free")
    element = spec.sample(0)
    for many in (tuple(torch.cat([x, 2 * x, -x]) for x in case.inputs), tuple(x[:1] for x in case.inputs)):
        assert change(model, many, spec, element) < 1e-12


def test_outputs_of_another_width_are_refused() -> None:
    model = nn.Linear(5, 8).eval()
    spec = pg.derive(model, torch.randn(2, 5), kinds="all", outputs="free")
    with pytest.raises(pg.SpecMismatchError, match="derive the specification for inputs of this shape"):
        spec.apply_outputs(spec.sample(0), torch.randn(2, 9))


def test_the_summary_names_the_kind_of_every_group() -> None:
    _, spec = derived(next(case for case in KIND_CASES if case.name == "block"))
    assert "GL(4) ^ 2" in str(spec)
    assert "R⁺ wr Sym(12)" in str(spec)
    assert "O(8) with O 1 = 1" in str(spec)


LIMITS = (
    ("relu", "0.weight", "no more than positive scales", "aten.relu in 1 "),
    ("gelu", "0.weight", "no more than permutations", "aten.gelu in 1 "),
    ("rms norm", "a.weight", "no more than rotations", "contracts it with itself"),
    ("block", "inward.weight", "no more than rotations that keep the vector of ones", "takes its mean"),
    (
        "block with weights",
        "inward.weight",
        "no more than permutations",
        "multiplies it by first.weight\n      `fold` moves",
    ),
    ("gated", "up.weight", "no more than signs and scales", "multiplies it by silu"),
)


@pytest.mark.parametrize(("name", "tensor", "bound", "reason"), LIMITS, ids=[row[0] for row in LIMITS])
def test_an_explanation_says_why_a_kind_is_no_larger(name: str, tensor: str, bound: str, reason: str) -> None:
    _, spec = derived(next(case for case in KIND_CASES if case.name == name))
    for one in (spec, pg.PermutationSpec.from_json(spec.to_json())):
        text = str(one.explain((tensor, 0)))
        assert bound in text
        assert reason in text
    plain = derived(next(case for case in KIND_CASES if case.name == name), "permutation")[1]
    assert "no more than" not in str(plain.explain((tensor, 0)))


def test_an_explanation_names_the_kind_of_each_group() -> None:
    _, spec = derived(next(case for case in KIND_CASES if case.name == "block"))
    text = str(spec.explain(("q.weight", 0)))
    assert "qk: GL(4) ^ 2, on 4 axes" in text
    assert "a different invertible map for every index of heads" in text


def test_an_explanation_of_a_single_unit_speaks_of_its_sign() -> None:
    spec = pg.derive(nn.LSTM(3, 4).eval(), (torch.randn(5, 2, 3),), kinds="signed", outputs="free")
    assert "a different sign for every index of" in str(spec.explain(("weight_hh_l0", 0)))


class Parts(nn.Module):
    """A layer whose weight has a norm of its own, read in two parts that are treated apart."""

    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(3, 6), nn.Linear(4, 2)
        self.layer = parametrizations.weight_norm(nn.Linear(6, 4), dim=dim)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.inward(x).split(3, -1)
        three, four = self.layer(torch.cat([one.tanh(), two], -1)).split(2, -1)
        return self.outward(torch.cat([three.relu(), four.tanh()], -1))


@pytest.mark.parametrize("dim", [0, 1, None])
def test_the_parts_of_what_one_norm_is_taken_of_scale_together(dim: int | None) -> None:
    torch.manual_seed(0)
    model, inputs = Parts(dim).double().eval(), (torch.randn(4, 3).double(),)
    spec = pg.derive(model, inputs, kinds="all")
    assert any(group.kind == "scaled" for group in spec.groups) == (dim is not None)
    for seed in range(3):
        assert change(model, inputs, spec, spec.sample(seed)) < 1e-12


@pytest.mark.parametrize(("away", "moved"), [(1e-13, 0.0), (1e-3, 1.0), (-2.0, 1.0)])
def test_a_scale_that_differs_from_one_by_rounding_does_not_move(away: float, moved: float) -> None:
    assert parts.moved(parts.Monomial(np.arange(4), np.full(4, 1 + away))) == moved
