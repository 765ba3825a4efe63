"""The specification as a value: laws of the group, round trips, what it says, and what it refuses."""

import json
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
import torch
from pairs import PLANTED, mlp, vectors
from torch import nn

import permgraph as pg
from permgraph.symmetry.elements.parts import Monomial


@pytest.fixture(scope="module")
def spec() -> pg.PermutationSpec:
    return PLANTED["hubert"]().spec


def test_compose_acts_as_one_after_the_other(spec: pg.PermutationSpec) -> None:
    state = {name: torch.randn(shape) for name, shape in spec.shapes.items()}
    p, q = spec.sample(1), spec.sample(2)
    left, right = spec.apply(spec.compose(p, q), state), spec.apply(p, spec.apply(q, state))
    assert all(torch.equal(left[name], right[name]) for name in state)


def test_invert_undoes_from_both_sides(spec: pg.PermutationSpec) -> None:
    p = spec.sample(3)
    assert spec.compose(spec.invert(p), p) == spec.identity() == spec.compose(p, spec.invert(p))


def test_apply_moves_new_from_old_and_leaves_the_old_alone() -> None:
    model = mlp(4)
    spec = pg.derive(model, (vectors()[0],))
    perm = np.array([2, 0, 3, 1])
    state = model.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    moved = spec.apply({"0.units" if "0.units" in spec.identity() else spec.groups[0].name: perm}, state)
    assert torch.equal(moved["0.weight"], state["0.weight"][perm])
    assert torch.equal(moved["2.weight"], state["2.weight"][:, perm])
    assert all(torch.equal(before[name], state[name]) for name in state)
    assert moved["4.weight"].data_ptr() != state["4.weight"].data_ptr()


@pytest.mark.parametrize("layer", [nn.LSTM(5, 6, 2), nn.GRU(5, 6, bidirectional=True), nn.RNN(5, 6)])
def test_units_of_recurrent_layers_have_a_role(layer: nn.Module) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.cell, self.out = (
                layer,
                nn.GRUCell(5, 5),
                nn.Linear(layer(torch.randn(3, 5))[0].shape[-1], 2),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.out(self.inner(self.cell(x))[0])
            return found

    groups = pg.derive(Net().eval(), (torch.randn(3, 5),)).groups
    assert {g.role for g in groups if any("weight_ih" in name and not dim for name, dim in g.axes)} == {"recurrent"}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_sign_acts_on_the_rows_of_one_gate(kind: Callable[..., nn.Module]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.out = kind(5, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.out(self.layer(x)[0])
            return found

    model, x = Net().eval(), torch.randn(3, 2, 5)
    spec = pg.derive(model, (x,), kinds="signed")
    (name,) = (group.name for group in spec.groups if group.kind == "signed")
    element = {name: Monomial(np.zeros((6, 1), dtype=np.int64), -np.ones((6, 1)))}
    moved = pg.PermutationSpec.from_json(spec.to_json()).apply(element, model.state_dict())
    ratio = moved["layer.weight_ih_l0"] / model.state_dict()["layer.weight_ih_l0"]
    assert torch.equal(ratio[:, 0], torch.where((torch.arange(len(ratio)) // 6) == 2, -1.0, 1.0))
    assert torch.allclose(torch.func.functional_call(model, moved, (x,)), model(x), atol=1e-6)
    lines = str(spec.explain(("layer.weight_ih_l0", 0))).splitlines()
    assert [line.rpartition(", ")[2] for line in lines if name in line] == ["at 12:18"]


def test_json_round_trip_is_stable(spec: pg.PermutationSpec) -> None:
    text = spec.to_json()
    again = pg.PermutationSpec.from_json(text)
    assert again.to_json() == text
    assert str(again) == str(spec)
    assert again.sample(5) == spec.sample(5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "damaged"),
        ("{}", "not a permgraph specification"),
        ("[1]", "not a permgraph specification"),
        (json.dumps({"format": "permgraph.spec", "version": 99}), "version 99"),
        (json.dumps({"format": "permgraph.spec", "version": 1}), "damaged"),
    ],
)
def test_other_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(pg.SpecMismatchError, match=message):
        pg.PermutationSpec.from_json(text)


def test_sizes_counts_and_dependence(spec: pg.PermutationSpec) -> None:
    outer, inner = spec["residual"], spec["residual.within"]
    assert (outer.size, inner.size, inner.depends_on, inner.count) == (4, 8, ("residual",), 4)
    assert ("encoder.layer_norm.weight", 0) in inner.axes
    assert spec["encoder.layers.0.attention.qk"].count == 4


def test_the_graph_ties_axes_with_their_operations(spec: pg.PermutationSpec) -> None:
    assert isinstance(spec.graph, nx.Graph)
    assert all(data["op"] for _, _, data in spec.graph.edges(data=True))
    for component in nx.connected_components(spec.graph):
        assert len({spec.graph.nodes[k]["group"] for k in component}) == 1
        assert len({spec.graph.nodes[k]["size"] for k in component}) == 1


def test_explain_one_axis_and_two(spec: pg.PermutationSpec) -> None:
    query, out = ("encoder.layers.0.attention.q_proj.weight", 0), ("encoder.layers.0.attention.out_proj.weight", 1)
    one = spec.explain(query)
    assert one.verdict == "moves"
    assert "for every index of encoder.layers.0.attention.heads" in str(one)
    two = spec.explain(query, out)
    assert two.verdict == "together"
    assert two.groups == ("encoder.layers.0.attention.heads",)
    assert "scaled_dot_product_attention" in str(two)
    assert two.chain[-1].tensor == out[0]
    assert spec.explain(query, ("encoder.layers.1.attention.q_proj.weight", 0)).verdict == "apart"


def test_explain_a_pin_and_an_unreached_parameter(spec: pg.PermutationSpec) -> None:
    kernel = spec.explain(("feature_extractor.conv_layers.3.conv.weight", 2))
    assert kernel.verdict == "pinned"
    assert "kernel" in str(kernel)
    assert spec.explain(("masked_spec_embed", 0)).verdict == "unreached"


@pytest.mark.parametrize(
    ("axis", "message"), [(("encoder.layer_norm.wait", 0), "near"), (("masked_spec_embed", 3), "3")]
)
def test_explain_refuses_what_is_not_there(spec: pg.PermutationSpec, axis: tuple[str, int], message: str) -> None:
    with pytest.raises(pg.SpecMismatchError, match=message):
        spec.explain(axis)


def test_a_tie_by_name_moves_an_unreached_parameter() -> None:
    planted = PLANTED["hubert"]()
    tie = {("masked_spec_embed", 0): ("encoder.layer_norm.weight", 0)}
    spec = pg.derive(planted.a, (), planted.batches[0], outputs="free", tie=tie)
    assert spec.unreached == ("masked_spec_embed",)
    assert ("masked_spec_embed", 0) in spec["residual"].axes
    p = spec.sample(0)
    state = {**planted.a.state_dict()}
    state["masked_spec_embed"] = state["encoder.layer_norm.weight"].clone()
    moved = spec.apply(p, state)
    assert torch.equal(moved["masked_spec_embed"], moved["encoder.layer_norm.weight"])
    assert spec.left_alone == ()
    assert "not reached" not in str(spec)


BAD_STATES = {
    "missing": (lambda s: {k: v for k, v in s.items() if k != "0.bias"}, "missing 0.bias"),
    "extra": (lambda s: {**s, "9.bias": torch.zeros(1)}, "unexpected 9.bias"),
    "shape": (lambda s: {**s, "0.bias": torch.zeros(7)}, r"\(7,\).*\(12,\)"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_dict_that_does_not_fit_is_refused(case: str) -> None:
    change, message = BAD_STATES[case]
    model = mlp()
    spec = pg.derive(model, (vectors()[0],))
    with pytest.raises(pg.SpecMismatchError, match=message):
        spec.apply(spec.sample(0), change(model.state_dict()))


@pytest.mark.parametrize("table", [np.zeros(12, dtype=int), np.arange(5)])
def test_a_table_that_is_no_permutation_is_refused(table: np.ndarray) -> None:
    model = mlp()
    spec = pg.derive(model, (vectors()[0],))
    with pytest.raises(pg.SpecMismatchError, match=spec.groups[0].name):
        spec.apply({spec.groups[0].name: table}, model.state_dict())


def test_summary_folds_equal_layers() -> None:
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(20))).eval()
    text = str(pg.derive(model, (torch.randn(2, 6),)))
    assert "0–18" in text
    assert len(text.splitlines()) < 12
    assert "<table>" in pg.derive(model, (torch.randn(2, 6),))._repr_html_()


REFUSED = {
    "not a module": (lambda m, x: pg.derive(lambda y: y, (x,)), pg.CaptureError, "function"),
    "an unknown mode": (lambda m, x: pg.derive(m, (x,), outputs="maybe"), pg.OptionError, "maybe"),
    "a tie to nothing": (
        lambda m, x: pg.derive(m, (x,), tie={("0.bia", 0): ("0.bias", 0)}),
        pg.SpecMismatchError,
        "near",
    ),
    "a tie of sizes": (
        lambda m, x: pg.derive(m, (x,), tie={("0.bias", 0): ("4.bias", 0)}),
        pg.SpecMismatchError,
        "units",
    ),
    "a tie of no axis": (
        lambda m, x: pg.derive(m, (x,), tie={("0.bias", 1): ("0.bias", 0)}),
        pg.SpecMismatchError,
        "dim",
    ),
    "a tie that is no dict": (lambda m, x: pg.derive(m, (x,), tie="0.bias"), pg.OptionError, "tie is a dict"),
    "no axis": (lambda m, x: pg.derive(m, (x,)).explain("0.bias"), pg.SpecMismatchError, "tuple"),
}
NO_TIES = {
    "names": {"0.bias": "4.bias"},
    "a name and an axis": {("0.bias", 0): "2.bias"},
    "a dimension in letters": {("0.bias", "0"): ("2.bias", 0)},
    "a dimension that is a truth value": {("0.bias", True): ("2.bias", 0)},
    "a dimension that is no whole number": {("0.bias", 0): ("2.bias", 0.0)},
    "two dimensions": {("0.weight", 0, 1): ("2.bias", 0)},
    "a list": {("0.bias", 0): ["2.bias", 0]},
    "nothing": {("0.bias", 0): None},
    "a number for a name": {(0, 0): ("2.bias", 0)},
}


@pytest.mark.parametrize("tie", NO_TIES.values(), ids=NO_TIES)
def test_a_tie_that_names_no_axis_is_refused(tie):
    with pytest.raises(pg.OptionError, match=r"a tie is \{\(parameter, dim\): \(parameter, dim\)\}, not .* and "):
        pg.derive(mlp(), (vectors()[0],), tie=tie)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(mlp(), vectors()[0])


def test_a_tensor_alone_is_the_only_argument() -> None:
    assert pg.derive(mlp(), vectors()[0]).to_json() == pg.derive(mlp(), (vectors()[0],)).to_json()


def test_tied_weights_stay_one_tensor_and_equal_ones_apart():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(self.first(self.embedding(ids)).relu()))

    model = Tied().eval()
    spec = pg.derive(model, (torch.arange(5)[None],))
    state = model.state_dict()
    element = spec.sample(1)
    moved = spec.apply(element, state)
    assert moved["head.weight"] is moved["embedding.weight"]
    shared = {**state, "first.weight": state["second.weight"]}  # one tensor in two places that move differently
    expected = spec.apply(element, {**shared, "first.weight": state["second.weight"].clone()})
    found = spec.apply(element, shared)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(found["first.weight"], found["second.weight"])


def test_the_specification_records_the_shapes_that_were_traced() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return x * mask

    spec = pg.derive(Two().eval(), (torch.randn(2, 3),), {"mask": torch.ones(3)})
    assert spec.inputs == (("args[0]", (2, 3)), ("kwargs['mask']", (3,)))
    assert pg.PermutationSpec.from_json(spec.to_json()).inputs == spec.inputs
