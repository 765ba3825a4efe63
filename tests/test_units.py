"""Units of a group: what belongs to each, other orders of them, and models without some of them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from kind_cases import KIND_CASES
from test_zoo import derived, parameters
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo import ROWS, Row

import permgraph as pg

FAST = [row for row in ROWS if row.order and not row.slow and row.name != "more than 8192 units"]
ZOO = pytest.mark.parametrize("row", parameters(FAST, every=4))


def marks(spec: pg.PermutationSpec, slices: Any) -> dict[str, Tensor]:
    """A state dict of zeros, and ones in the slices."""
    found = {name: torch.zeros(shape) for name, shape in spec.shapes.items()}
    for name, index in slices:
        found[name][index] = 1
    return found


@ZOO
def test_a_unit_moves_as_a_whole(row: Row) -> None:
    """The marks of unit p[i], moved by p, are the marks of unit i."""
    spec = derived(row)[1]
    for group in spec.groups:
        units = {unit.index: unit for unit in spec.units(group)}
        assert len(units) == group.count * group.size
        table = spec.sample(0)[group.name]
        for index in list(units)[:: max(1, len(units) // 3)]:
            old = (*index[:-1], int(table[index]))
            moved = spec.apply({group.name: table}, marks(spec, units[old]))
            here = marks(spec, units[index])
            assert all(torch.equal(moved[name], here[name]) for name in here), (group.name, index)


@ZOO
def test_units_cover_what_their_group_moves(row: Row) -> None:
    spec = derived(row)[1]
    for group in spec.groups:
        here = marks(spec, [pair for unit in spec.units(group.name) for pair in unit])
        moved = {name for name, layout in spec.layouts.items() if group.name in layout.groups}
        assert {name for name, tensor in here.items() if tensor.any()} == moved


def test_units_are_views_of_the_state_dict() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    state = model.state_dict()
    for i, unit in enumerate(pg.derive(model, torch.randn(4, 2)).units("hidden")):
        assert unit.index == (i,)
        for view in unit.of(state):
            view.zero_()
    assert [not tensor.any() for tensor in state.values()] == [True, True, True, False]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("row", parameters(row for row in FAST if row.outputs == "fixed"))
def test_another_order_is_the_same_function(row: Row) -> None:
    case, spec = derived(row)
    state = case.model.state_dict()
    for group in spec.groups[:4]:
        ordered = spec.reorder(state, group, size_of)
        sizes = np.reshape([size_of(unit.of(ordered)) for unit in spec.units(group)], group.table_shape)
        assert (np.diff(sizes, axis=-1) >= -1e-5).all()
        back: Any = np.arange(group.size)[::-1]
        once = spec.reorder(state, group, torch.from_numpy(back.copy()))
        assert same_state(spec.reorder(once, group, back), state)
        for a, b in zip(outputs(case.model, state, case), outputs(case.model, ordered, case), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def size_of(tensors: list[Tensor]) -> float:
    return float(sum(tensor.double().square().sum() for tensor in tensors))


def same_state(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def outputs(model: nn.Module, state: dict[str, Tensor], case: Any) -> list[Tensor]:
    moved = copy.deepcopy(model)
    moved.load_state_dict(state)
    torch.manual_seed(0)
    with torch.no_grad():
        found = moved(*case.args, **case.kwargs)
    return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("case", KIND_CASES, ids=[case.name for case in KIND_CASES])
def test_all_kinds_have_units_and_orders(case: Any) -> None:
    model = case.build().double().eval()
    spec, state = pg.derive(model, case.inputs, kinds="all"), model.state_dict()
    for group in spec.groups:
        assert len(spec.units(group)) == group.count * group.size
        ordered = spec.reorder(state, group, lambda tensors: -size_of(tensors))
        with torch.no_grad():
            torch.testing.assert_close(torch.func.functional_call(model, ordered, case.inputs), model(*case.inputs))


@ZOO
def test_a_smaller_state_dict_has_every_unit_but_those(row: Row) -> None:
    spec = derived(row)[1]
    for group in spec.groups:
        gone = [unit for unit in spec.units(group) if unit.index[-1] == 1]
        state = marks(spec, [pair for unit in gone for pair in unit])
        smaller = spec.remove(state, group, gone)
        assert all(not tensor.any() for tensor in smaller.values())
        cut = {name for name, tensor in state.items() if tensor.shape != smaller[name].shape}
        assert cut == {name for name, layout in spec.layouts.items() if group.name in layout.groups}


SHRUNK = {  # the roles that lose a unit a row, in every layer, and the numbers of the configuration that then differ
    "Llama, hidden": ("LlamaForCausalLM", "feed_forward", {"intermediate_size": 63}),
    "Llama, heads": ("LlamaForCausalLM", "attention.heads", {"num_key_value_heads": 1, "num_attention_heads": 1}),
    "Llama, stream": ("LlamaForCausalLM", "residual", {"hidden_size": 31}),
    "BERT, hidden": ("BertModel", "feed_forward", {"intermediate_size": 63}),
    "T5, heads": ("T5ForConditionalGeneration", "attention.heads", {"num_heads": 3}),
    "ViT, hidden": ("ViTModel", "feed_forward", {"intermediate_size": 63}),
}
ROW = {row.name: row for row in ROWS}


@pytest.mark.parametrize("name", SHRUNK)
def test_a_shrunk_model_has_the_function_of_the_masked_one(name: str) -> None:
    row, role, changes = SHRUNK[name]
    case, spec = derived(ROW[row])
    gone = {group.name: [1] for group in spec.groups if group.role == role}
    small = pg.shrink(case.model, case.args, case.kwargs, remove=gone, spec=spec)
    before, after = (model.config.to_dict() for model in (case.model, small))
    assert {key: value for key, value in after.items() if value != before[key]} == changes
    assert same_state(small.state_dict(), spec.remove(case.model.state_dict(), gone))
    if role != "residual":
        masked = {key: tensor.clone() for key, tensor in case.model.state_dict().items()}
        for unit in (unit for group in gone for unit in spec.units(group) if unit.index[-1] == 1):
            for view in unit.of(masked):
                view.zero_()
        expected, found = outputs(case.model, masked, case), outputs(small, small.state_dict(), case)
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


HEADS = nn.MultiheadAttention(8, 2, batch_first=True).eval()
STATE = HEADS.state_dict()
GROUPS = pg.derive(HEADS, (torch.zeros(1, 3, 8),) * 3)
QK = next(group for group in GROUPS.groups if group.role == "attention.qk")
REFUSED = {
    "no group": (lambda: GROUPS.units("hidden"), "no group has the name hidden"),
    "an order of too few": (lambda: GROUPS.reorder(STATE, QK, [0, 1]), "an order is a function"),
    "an order that is none": (lambda: GROUPS.reorder(STATE, QK, [0, 0, 1, 2]), "repeated units"),
    "all units": (lambda: GROUPS.remove(STATE, QK, range(4)), "all 4 units are removed"),
    "a unit that is not there": (lambda: GROUPS.remove(STATE, QK, [4]), "numbers from 0 to 3"),
    "more here than there": (lambda: GROUPS.remove(STATE, QK, GROUPS.units(QK)[:3]), "3 units .* and 0|0 units .* 3"),
    "units of another group": (
        lambda: GROUPS.remove(STATE, QK, GROUPS.units(next(g for g in GROUPS.groups if g.role == "attention.vo"))),
        "these are units of",
    ),
    "a model without configuration": (lambda: pg.shrink(HEADS, remove={}), "has no configuration"),
    "a size that no configuration gives": (lambda: bert_without_a_head(), "32 to 24"),
}


def bert_without_a_head() -> Any:
    case, spec = derived(ROW["BertModel"])
    gone = {group.name: [0] for group in spec.groups if group.role == "attention.heads"}
    return pg.shrink(case.model, case.args, case.kwargs, remove=gone, spec=spec)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(pg.PermgraphError, match=message):
        call()
