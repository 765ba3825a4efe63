"""Pages as text: all that a specification knows is in them, they stay small, and they ask nobody for anything."""

import json
import re

import pytest
import torch
from pairs import PLANTED, mlp, vectors
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import permgraph as pg
from permgraph.pages.blocks import PINNED, fold_equal, kind_of, module_tree, segments
from permgraph.pages.inspection import inspection_data, inspection_page
from permgraph.pages.page import unpacked


def deep_llama(layers: int) -> pg.PermutationSpec:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 50, "num_hidden_layers": layers}
    with torch.device("meta"):
        config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, use_cache=False, **sizes)
        model = LlamaForCausalLM(config).eval()
    return pg.derive(model, (), {"input_ids": torch.zeros(1, 8, dtype=torch.long, device="meta")})


@pytest.mark.parametrize("name", PLANTED)
def test_the_page_carries_the_specification(name: str) -> None:
    spec = PLANTED[name]().spec
    data = unpacked(re.search(r'<script id="data" type="text/plain">(.*?)</script>', inspection_page(spec, name))[1])
    assert data == json.loads(json.dumps(inspection_data(spec, name)))
    assert [group["name"] for group in data["groups"]] == [group.name for group in spec.groups]
    assert {(data["names"][t], dim): why for t, dim, why in data["pinned"]} == dict(spec.pinned)
    assert len(data["ties"]["tensor"]) == spec.graph.number_of_nodes()
    assert len(data["ties"]["a"]) == spec.graph.number_of_edges()
    acting = {
        (data["groups"][g]["name"], data["names"][t], d)
        for t, tensor in enumerate(data["tensors"])
        for d, axis in enumerate(tensor["axes"])
        for _, groups in axis
        for g in groups
        if g != PINNED
    }
    expected = {(g.name, tensor, dim) for g in spec.groups for tensor, dim in g.axes}
    assert acting == expected


def test_the_page_says_what_each_use_would_touch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    spec, state = pg.derive(model, torch.randn(2, 3, 8, 8), kinds="all"), model.state_dict()
    data = inspection_data(spec, "model")
    elements = sum(tensor.numel() for tensor in state.values())
    for group, slices, lost in zip(spec.groups, data["uses"]["slices"], data["uses"]["lost"], strict=True):
        assert slices == len(spec.units(group)[0])
        assert lost == elements - sum(tensor.numel() for tensor in spec.remove(state, group, [0]).values())
    moves = [
        (data["groups"][g]["name"], turns, data["names"][takes[0]]) for g, turns, takes, *_ in data["uses"]["moves"]
    ]
    assert moves == [(one.group, 0, one.takes[0][0]) for one in spec.mappings().scales]


def test_the_page_names_the_kind_of_each_group() -> None:
    spec = pg.derive(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.randn(2, 5), kinds="all")
    assert [group["symbol"] for group in inspection_data(spec, "mlp")["groups"]] == ["R⁺ wr Sym(8)"]


def test_a_page_asks_for_nothing_and_says_so() -> None:
    page = inspection_page(pg.derive(mlp(), vectors()[0]), "<script>alert(1)</script>")
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=|url\(|@import|fetch\(", page)
    assert "<script>alert(1)" not in page
    assert "<noscript>" in page


@pytest.mark.parametrize("depth", [3, pytest.param(32, marks=pytest.mark.slow)])
def test_many_layers_stay_small_and_fold_into_one_box(depth: int) -> None:
    spec = deep_llama(depth)
    page = inspection_page(spec, "llama")
    assert len(page) < 50_000 + 5_000 * depth
    data = inspection_data(spec, "llama")
    layers = data["tree"]["runs"][0][0]["runs"][1][0]
    assert layers["name"] == "layers"
    assert [len(run) for run in layers["runs"]] == [depth]
    kinds = {group["kind"] for group in data["groups"]}
    assert len(data["groups"]) == 1 + 4 * depth
    assert kinds == {
        "residual",
        *(f"model.layers.#.{name}" for name in ("self_attn.heads", "self_attn.heads.within", "self_attn.vo")),
        "model.layers.#.mlp.hidden",
    }


def test_only_layers_that_look_alike_fold() -> None:
    tree = module_tree([f"layers.{k}.weight" for k in range(4)])
    fold_equal(tree, {f"layers.{k}.weight": "wide" if k == 2 else "narrow" for k in range(4)})
    assert tree.children["layers"].folded == [["0", "1"], ["2"], ["3"]]
    assert kind_of("layers.1.hidden", {"layers.0", "layers.1"}) == "layers.#.hidden"
    assert kind_of("layers.2.hidden", {"layers.0", "layers.1"}) == "layers.2.hidden"


class Fused(nn.Module):
    """Query, key and value as thirds of one weight; four heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (4, 2)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


def test_a_fused_projection_is_drawn_in_its_parts() -> None:
    spec = pg.derive(Fused().eval(), torch.randn(2, 5, 8))
    numbers = {group.name: k for k, group in enumerate(spec.groups)}
    heads, qk, vo = (
        {g.role: k for k, g in enumerate(spec.groups)}[f"attention.{part}"] for part in ("heads", "qk", "vo")
    )
    assert segments(spec.layouts["qkv.weight"], 0, numbers) == [(0.6667, (heads, qk)), (0.3333, (heads, vo))]
    assert segments(spec.layouts["qkv.weight"], 1, numbers) == [(1.0, (PINNED,))]


def test_notebooks_show_groups_and_pins() -> None:
    shown = pg.derive(mlp(), vectors()[0])._repr_html_()
    assert shown.count("<tr>") == 2
    assert "an output of the model, held fixed" in shown
    assert "width:98.88%" in shown
