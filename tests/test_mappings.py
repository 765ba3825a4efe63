"""Scales and rotations that move between layers: which they are, and that the function stays when tools move them."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
import torch
from judge import _double as double, generic
from smoothing import smoothed
from test_zoo import derived, parameters
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from zoo import ROWS, Row

import permgraph as pg

FEW = [row for row in ROWS if row.order and not row.slow and row.name != "more than 8192 units"]
ROW = {row.name: row for row in ROWS}


@cache
def transfers(row: Row) -> pg.PermutationSpec:
    case = derived(row)[0]
    return pg.derive(case.model, case.args, case.kwargs, kinds="all")


def change(row: Row, model: nn.Module, state: dict[str, Tensor]) -> float:
    """|f(θ') - f(θ)|, relative to |f(θ)|."""
    case = derived(row)[0]
    args, kwargs = pytree.tree_map_only(Tensor, double, (case.args, case.kwargs))
    with torch.no_grad():
        torch.manual_seed(0)
        before = pytree.tree_leaves(model(*args, **kwargs))
        torch.manual_seed(0)
        model = copy.deepcopy(model)
        model.load_state_dict(state)
        after = pytree.tree_leaves(model(*args, **kwargs))
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if isinstance(a, Tensor) and a.is_floating_point()]
    return max((float((a - b).abs().max() / a.abs().max()) for a, b in pairs), default=0.0)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("row", parameters(FEW, every=6))
def test_a_tool_may_move_the_plain_scales(row: Row) -> None:
    """The layers of each plain scale, and no group, say what is multiplied; norms are not at their start."""
    spec = transfers(row)
    model = generic(derived(row)[0].model, 0)
    for one in spec.mappings().scales:
        if one.plain:
            s = torch.rand(one.size * one.count, dtype=torch.float64) + 0.5
            state = smoothed(model, one.source, one.readers, s)
            assert change(row, model, state) < row.tolerance, str(one)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("row", parameters(FEW, every=6))
def test_every_rotation_is_one_of_the_group(row: Row) -> None:
    """M along the axes that take it, and its inverse along the others, is what the group's own element does."""
    spec = transfers(row)
    state = generic(derived(row)[0].model, 0, spec.held).state_dict()
    for one in spec.mappings().rotations:
        group = spec[one.group]
        assert (group.kind, group.size, group.count) == (one.kind, one.size, one.count)
        element = {one.group: spec.sample(1)[one.group]}
        places = {(name, dim) for name, dim, _ in (*one.takes, *one.gives)}
        moved = {name for name, tensor in spec.apply(element, state).items() if not torch.equal(tensor, state[name])}
        assert {name for name, _ in places} == moved & {name for name, _ in places} == moved - set(spec.ties.aliases)


LLAMA = {
    "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"],
    "mlp.up_proj": ["mlp.down_proj"],
}


def test_what_moves_in_a_llama() -> None:
    found = transfers(ROW["LlamaForCausalLM"]).mappings()
    layers = found.layers()
    for layer in ("model.layers.0.", "model.layers.1."):
        for smooth, balance in LLAMA.items():
            assert {"smooth_layer": layer + smooth, "balance_layers": [layer + name for name in balance]} in layers
    assert layers[-1] == {"smooth_layer": "model.norm", "balance_layers": ["lm_head"]}
    assert len(layers) == 2 * len(LLAMA) + 1
    values = [one for one in found.scales if one.source.endswith("v_proj")]
    assert [one.readers for one in values] == [(f"model.layers.{k}.self_attn.o_proj",) for k in (0, 1)]
    assert not any(one.plain for one in values)  # a key-value head goes to two heads of the output projection
    stream = found.rotations[0]
    assert stream.kind == "orthogonal"
    assert stream.sources[0] == "model.embed_tokens"
    assert "lm_head" in stream.readers
    assert str(found).count("\n") == len(found.scales) + len(found.rotations) - 1


def test_norms_hand_over_scales_whatever_their_weights_are() -> None:
    """A norm of equal weights is held, so that its stream rotates; its scales may move all the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)).eval()
    x = (torch.randn(4, 5),)
    equal = pg.derive(model, x, kinds="all")
    assert [group.kind for group in equal.groups] == ["centred"]
    nn.init.uniform_(model[1].weight, 0.5, 1.5)
    other = pg.derive(model, x, kinds="all")
    for spec, rotates in ((equal, True), (other, False)):
        (scale,) = spec.mappings().scales
        source, readers = scale
        assert (source, readers, scale.plain, scale.signs) == ("1", ("2",), True, True)
        assert bool(spec.mappings().rotations) == rotates


class OnePlus(nn.Module):
    """An RMS norm that scales by 1 + w, as Gemma's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


@pytest.mark.parametrize("start", [True, False], ids=["w = 0", "any w"])
def test_norms_that_scale_by_one_plus_their_weight_hand_over_scales(start: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), OnePlus(), nn.Linear(8, 3)).double().eval()
    x = torch.randn(4, 5).double()
    with torch.no_grad():
        model[1].weight *= not start
    spec = pg.derive(model, (x,), kinds="all")
    found = spec.mappings()
    (scale,) = found.scales
    assert ((scale.source, scale.readers), scale.plain, found.added) == (("1", ("2",)), True, {"1.weight": 1.0})
    assert pg.PermutationSpec.from_json(spec.to_json()).mappings() == found
    assert bool(found.rotations) == start
    s, state = torch.rand(8).double() + 0.5, model.state_dict()
    state = state | {"1.weight": s * (1 + state["1.weight"]) - 1, "2.weight": state["2.weight"] / s}
    torch.testing.assert_close(torch.func.functional_call(model, state, x), model(x))


def test_queries_and_keys_are_no_pair_of_layers() -> None:
    """Both write: a tool that divides the columns of the keys would change the function."""
    found = transfers(ROW["BertModel"]).mappings()
    between = [one for one in found.scales if one.source.endswith("query")]
    assert between
    assert not any(one.plain for one in between)


def test_other_kinds_hold_none() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    found = pg.derive(model, (torch.randn(4, 5),)).mappings()
    assert (found.scales, found.rotations, found.layers()) == ((), (), [])
    assert str(found) == "nothing moves between layers"


@pytest.mark.parametrize(
    ("place", "value"), [((0, 4, 0, 1), 5), ((0, 4, 0, 0), "nobody"), ((0, 5), [])], ids=["dim", "name", "no reader"]
)
def test_damaged_mappings_are_refused(place: tuple[int, ...], value: Any) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    spec = pg.derive(model, (torch.randn(4, 5),), kinds="all")
    assert pg.PermutationSpec.from_json(spec.to_json()).mappings() == spec.mappings()
    data = json.loads(spec.to_json())
    holder = data["transfers"]["scales"]
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(pg.SpecMismatchError, match=r"moved along an axis|from no layer"):
        pg.PermutationSpec.from_json(json.dumps(data))
