"""Canonical forms: one state dict for all members of an orbit, the same function, and what is tied is said."""

from __future__ import annotations

import copy

import pytest
import torch
from canonical_forms import CLOSE, ROW, gap, prepared
from judge import generic
from test_zoo import derived, parameters
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo import ROWS, Row
from zoo_rows import Case

import permgraph as pg

FEW = (
    "residual mlp",
    "gated mlp, glu",
    "conv, BatchNorm",
    "LSTM, 1 layers",
    "GroupNorm",
    "grouped queries, separate",
    "BertModel",
)


MANY = (
    *("mlp", "residual mlp", "concat in cascade", "tied embedding and head", "cosine similarity", "bilinear", "mixer"),
    *("learned queries", "soft mixture of experts", "state space", "GRU, 1 layers", "LSTM with projection"),
    *("residual cnn", "grouped conv", "U-Net", "nn.MultiheadAttention", "multi-query", "QK-norm"),
    *("GPT2LMHeadModel", "LlamaForCausalLM"),
)


def results(model: nn.Module, state: dict[str, Tensor], case: Case) -> list[Tensor]:
    args, kwargs = pytree.tree_map_only(
        Tensor, lambda x: x.double() if x.is_floating_point() else x, (case.args, case.kwargs)
    )
    model = copy.deepcopy(model)
    model.load_state_dict(state)
    with torch.no_grad():
        return [leaf for leaf in pytree.tree_leaves(model(*args, **kwargs)) if isinstance(leaf, Tensor)]


def check(row: Row, kinds: str, elements: int) -> None:
    case, spec, model = prepared(row, kinds)
    state = model.state_dict()
    form = pg.canonical(state, spec=spec)
    assert form.unique
    assert not form.ties
    for seed in range(elements):
        other = pg.canonical(spec.apply(spec.sample(seed), state), spec=spec)
        assert gap(form, other) < (0.0 if kinds != "all" else CLOSE) + 1e-300, seed
    for a, b in zip(results(model, state, case), results(model, form, case), strict=True):
        torch.testing.assert_close(a, b, rtol=row.tolerance, atol=row.tolerance * float(a.abs().max()))


@pytest.mark.parametrize(
    "kinds", [*(pytest.param(k, marks=pytest.mark.slow) for k in ("permutation", "signed")), "all"]
)
@pytest.mark.parametrize("name", FEW)
def test_all_members_of_an_orbit_have_one_form(name: str, kinds: str) -> None:
    check(ROW[name], kinds, 10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("kinds", ["permutation", "signed", "all"])
@pytest.mark.parametrize("name", MANY)
def test_all_members_of_an_orbit_have_one_form_200_times(name: str, kinds: str) -> None:
    check(ROW[name], kinds, 200)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("row", parameters(row for row in ROWS if row.order))
def test_every_model_of_the_zoo_has_a_form(row: Row) -> None:
    check(row, "all", 2)


@pytest.mark.parametrize("name", FEW)
def test_orders_alone_leave_the_same_bits(name: str) -> None:
    """Of a permuted model the form is the same to the last bit, in float32 and with kinds that scale and rotate too."""
    case = derived(ROW[name])[0]
    model, moved = copy.deepcopy(case.model), copy.deepcopy(case.model)
    spec = pg.derive(model, case.args, case.kwargs)
    model.load_state_dict(
        {n: t.to(case.model.state_dict()[n].dtype) for n, t in generic(model, 1).state_dict().items()}
    )
    moved.load_state_dict(spec.apply(spec.sample(0), model.state_dict()))
    a, b = (pg.canonical(one, case.args, case.kwargs) for one in (model, moved))
    assert a.spec.kinds in ("all", "signed", "permutation")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(a[name].dtype == tensor.dtype for name, tensor in model.state_dict().items())
    model.load_state_dict(a)


def test_tied_weights_stay_one_tensor() -> None:
    _, spec, model = prepared(ROW["tied embedding and head"], "all")
    form = pg.canonical(model.state_dict(), spec=spec)
    names = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert len({tensor.data_ptr() for tensor in form.values()}) == len(names) < len(form)


def test_a_group_that_was_read_from_json_gives_the_same_form() -> None:
    _, spec, model = prepared(ROW["grouped queries, separate"], "all")
    again = pg.PermutationSpec.from_json(spec.to_json())
    assert gap(pg.canonical(model.state_dict(), spec=spec), pg.canonical(model.state_dict(), spec=again)) == 0
