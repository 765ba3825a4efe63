"""Where units are mixed beside a vector of equal elements: models in which these differ are refused, or folded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.merging.registry import merge_method
from permgraph.plugins import Registered

IDS = torch.arange(24).reshape(4, 6) % 11


class Words(nn.Module):
    def __init__(self, seed: int, *, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table, self.inner, self.outer = nn.Embedding(11, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.norm, self.last, self.head = nn.LayerNorm(8), nn.LayerNorm(8), nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        found: Tensor = self.head(self.last(x + self.outer(torch.relu(self.inner(self.norm(x))))))
        return found


def words(seed: int, *, gains: bool, **made: bool) -> nn.Module:
    model = Words(seed, **made).double().eval()
    if gains:
        with torch.no_grad():
            for norm in (model.norm, model.last):
                norm.weight.copy_(0.5 + torch.rand(8))
    return model


def change(model: nn.Module, state: Mapping[str, Tensor]) -> float:
    """How far a state dict is from the function of a model."""
    own = copy.deepcopy(model)
    for name, parameter in [*own.named_parameters(remove_duplicate=False)]:  # untied
        owner, _, leaf = name.rpartition(".")
        setattr(own.get_submodule(owner), leaf, nn.Parameter(parameter.detach().clone()))
    own.load_state_dict(dict(state))
    with torch.no_grad():
        return float((own(IDS) - model(IDS)).abs().max())


A, B, C = (words(seed, gains=seed > 1) for seed in (1, 2, 3))
SPEC = pg.derive(A, (IDS,), kinds="all")
MOVED = SPEC.sample(0)

REFUSED: Mapping[str, Callable[[], Any]] = {
    "apply": lambda: SPEC.apply(MOVED, B.state_dict()),
    "verify": lambda: pg.verify(B, (IDS,), spec=SPEC),
    "canonical": lambda: pg.canonical(B.state_dict(), spec=SPEC),
    "merge_many": lambda: pg.merge_many([A, B], [SPEC.identity(), MOVED], spec=SPEC),
    "augment": lambda: SPEC.augment(B.state_dict(), 0),
}


def with_a_zero() -> nn.Module:
    model = copy.deepcopy(B)
    with torch.no_grad():
        model.norm.weight[0] = 0
    return model


@pytest.mark.parametrize("what", [*REFUSED, "align"])
def test_a_model_in_which_the_elements_differ_is_refused(what: str) -> None:
    call = REFUSED.get(what) or (lambda: pg.align(A, with_a_zero(), args=(IDS,), spec=SPEC))
    with pytest.raises(pg.SpecMismatchError, match=r"the elements of .*norm\.weight differ.*pg\.fold|last\.weight"):
        call()


def test_a_model_of_which_this_holds_keeps_its_function() -> None:
    folded = pg.fold(B, (IDS,))
    assert len(folded.folded) == 2
    for model, state in ((A, A.state_dict()), (B, folded.state_dict)):
        assert change(model, SPEC.apply(MOVED, state)) < 1e-10
    assert pg.verify(A, (IDS,), spec=SPEC)


def test_units_that_only_change_places_do_so_in_every_model() -> None:
    group = next(one for one in SPEC.groups if one.size == 16)
    assert change(B, SPEC.reorder(B.state_dict(), group, [*range(16)][::-1])) < 1e-12


@pytest.mark.parametrize("tied", [False, True])
def test_models_matched_in_all_kinds_keep_their_functions_in_a_merge_of_many(tied: bool) -> None:
    models = [words(seed, gains=True, tied=tied) for seed in (1, 2, 3)]
    placed = pg.match_many(models, args=(IDS,), kinds="all")
    assert placed[1].untied == (("head.weight",) if tied else ())
    for number, model in enumerate(models):
        alone = pg.merge_many(models, placed, weights=[float(k == number) for k in range(3)])
        assert change(model, alone) < 1e-10
    with pytest.raises(pg.SpecMismatchError, match=r"fold the model first"):
        placed[1].spec.apply(placed[1], models[1].state_dict())
    assert replace(placed[1]).certificate


def the_base(tensors: Any, shares: Any, *, base: Any = None) -> Tensor:
    """What differences to the base would be added to."""
    found: Tensor = base
    return found


@pytest.mark.parametrize("many", [False, True])
def test_the_norms_of_a_base_are_folded_as_those_of_the_models(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(merge_method._known, "the base", Registered("the base", the_base))
    base, a, b = (words(seed, gains=True) for seed in (1, 2, 3))
    if many:
        placed = pg.match_many([a, b], args=(IDS,), kinds="all")
        merged = pg.merge_many([a, b], placed, method="the base", base=base)
    else:
        aligned = pg.align(a, b, args=(IDS,), kinds="all")
        merged = pg.merge(a, b, alignment=aligned, method="the base", base=base)
    assert bool((merged["norm.weight"] == 1).all())
    assert change(base, merged) < 1e-10


def test_numbers_that_float16_cannot_hold_are_refused() -> None:
    model = words(2, gains=True).half()
    with torch.no_grad():
        model.norm.weight.fill_(3e4)
        model.inner.weight.mul_(10)
    with pytest.raises(pg.NonFiniteError, match=r"inner\.weight has numbers above 65504 once it is moved"):
        pg.fold(model, (IDS,))


def test_a_tensor_that_a_ties_and_b_does_not_is_refused() -> None:
    tied, apart = (words(seed, gains=False, tied=seed == 1) for seed in (1, 2))
    with pytest.raises(pg.SpecMismatchError, match=r"are one tensor in model A and two in model B: untie"):
        pg.merge(tied, apart)
    merged = pg.merge(apart, tied)
    torch.testing.assert_close(merged["head.weight"], (apart.head.weight + tied.head.weight) / 2)
    with torch.no_grad():
        apart.head.weight.copy_(apart.table.weight)  # the same numbers, so that nothing is lost
    assert pg.merge(tied, apart)["head.weight"] is not None


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str)
def test_a_model_is_not_enlarged_into_another_dtype(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    a, b = (words(seed, gains=False).to(dtype) for seed, dtype in zip((1, 2), dtypes, strict=True))
    with pytest.raises(pg.SpecMismatchError, match=r"A is b?float\d+ and B b?float\d+.*convert one"):
        pg.enlarge(a, b, (IDS,))
