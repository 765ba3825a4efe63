"""What goes with weights moves as they do: task vectors, factors of adapters, gradients, vectors of the stream."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from kind_cases import KIND_CASES, KindCase
from pairs import PLANTED
from torch import Tensor, nn

import permgraph as pg
from permgraph.algebra.kinds import Kind
from permgraph.uses.carrying import carried

ALIGNED = [(name, kinds) for name in PLANTED for kinds in ("permutation", "all")]
CASES = pytest.mark.parametrize("case", KIND_CASES, ids=[case.name for case in KIND_CASES])


@cache
def aligned(name: str, kinds: str) -> pg.Alignment:
    planted = PLANTED[name]()
    kwargs = planted.batches[0] if isinstance(planted.batches[0], dict) else {}
    args = () if kwargs else (planted.batches[0],)
    return pg.align(planted.a, planted.b, args=args, kwargs=kwargs, kinds=kinds, outputs=planted.spec.outputs)


@pytest.mark.parametrize(("name", "kinds"), ALIGNED)
def test_the_weights_of_b_go_where_the_alignment_moves_them(name: str, kinds: str) -> None:
    found = aligned(name, kinds)
    moved = found.apply(PLANTED[name]().b.state_dict())
    assert moved.keys() == found.state_dict.keys()
    for key, tensor in found.state_dict.items():
        torch.testing.assert_close(moved[key], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "kinds"), ALIGNED)
def test_factors_move_as_their_product(name: str, kinds: str) -> None:
    found = aligned(name, kinds)
    given, products, moved = {}, {}, {}
    for module, layer in found.models.modules[1].named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, nn.Linear | nn.Embedding) or hasattr(layer, "nf"):
            turned = isinstance(layer, nn.Embedding) or hasattr(layer, "nf")
            out, inner = weight.shape[::-1] if turned else weight.shape
            kind = "embedding_" if isinstance(layer, nn.Embedding) else ""
            end = "" if kind else ".weight"
            names = [f"base_model.model.{module}.lora_{kind}{side}{end}" for side in "AB"]
            a, b = torch.randn(3, inner), torch.randn(out, 3)
            given |= dict(zip(names, (a, b), strict=True))
            products[f"{module}.weight"] = (b @ a).T if turned else b @ a
            moved[f"{module}.weight"] = names, turned
    factors, expected = found.apply(given), found.apply(products)
    assert products
    for weight, (names, turned) in moved.items():
        a, b = (factors[key] for key in names)
        torch.testing.assert_close((b @ a).T if turned else b @ a, expected[weight], rtol=1e-3, atol=1e-4)


def gradient(model: nn.Module, state: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in state.items()}
    torch.func.functional_call(model, leaves, inputs).square().sum().backward()
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def at_random(case: KindCase) -> tuple[Any, ...]:
    torch.manual_seed(0)
    model = case.build().double().eval()
    spec = pg.derive(model, case.inputs, kinds="all")
    element = spec.sample(0)
    state = model.state_dict()
    before, after = (gradient(model, one, case.inputs) for one in (state, spec.apply(element, state)))
    return spec, element, before, after


@CASES
def test_gradients_move_contragrediently(case: KindCase) -> None:
    spec, element, before, after = at_random(case)
    moved = carried([(spec, element)], before, "gradients", lambda name: False)
    for name, tensor in after.items():
        if name not in spec.held:
            torch.testing.assert_close(moved[name], tensor)


@CASES
def test_squares_of_gradients_move_where_units_are_not_mixed(case: KindCase) -> None:
    spec, element, before, after = at_random(case)
    mixing = {group.name for group in spec.groups if Kind(group.kind).mixes}
    mixed = {name for name, layout in spec.layouts.items() if mixing.intersection(layout.groups)}
    for name, tensor in ((n, t) for n, t in before.items() if n not in spec.held):
        if name in mixed:
            with pytest.raises(pg.SpecMismatchError, match=f"{name}: .* mixes units"):
                carried([(spec, element)], {name: tensor**2}, "squares", lambda name: False)
        else:
            found = carried([(spec, element)], {name: tensor**2}, "squares", lambda name: False)
            torch.testing.assert_close(found[name], after[name] ** 2)


@pytest.mark.parametrize("kinds", ["permutation", "all"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_vectors_of_the_stream_move_as_its_states(name: str, kinds: str) -> None:
    found, batch = aligned(name, kinds), PLANTED[name]().batches[0]
    model = found.models.modules[1]
    hidden = [states(model, state, batch) for state in (PLANTED[name]().b.state_dict(), found.state_dict)]
    moved = found.stream(hidden[0])
    torch.testing.assert_close(moved, hidden[1], rtol=1e-3, atol=1e-3)
    probe = torch.randn(5, hidden[0].shape[-1])
    torch.testing.assert_close(moved @ found.stream(probe, read=True).T, hidden[0] @ probe.T, rtol=1e-3, atol=1e-3)


def states(model: nn.Module, state: dict[str, Tensor], batch: Any) -> Tensor:
    """The stream before the second layer."""
    with torch.no_grad():
        return torch.func.functional_call(
            model, state, (), {**batch, "output_hidden_states": True}, tie_weights=False
        ).hidden_states[1]


REFUSED = {
    "a name": ({"0.wait": torch.zeros(12)}, {}, "the model has no tensor 0.wait"),
    "a shape": ({"0.bias": torch.zeros(11)}, {}, r"\(11,\), and in the model \(12,\)"),
    "a factor of nothing": ({"9.lora_A.weight": torch.zeros(2, 5)}, {}, "no weight of which it is a factor"),
    "a factor of another size": ({"0.lora_A.weight": torch.zeros(2, 6)}, {}, "should be dim 1 of 0.weight"),
    "a transposed factor": (
        {"0.lora_A.weight": torch.zeros(2, 5)},
        {"transposed": True},
        "dim 0 of 0.weight",
    ),
    "what": ({}, {"what": "moments"}, "what is one of weights, gradients, squares"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    tensors, options, message = REFUSED[name]
    with pytest.raises(pg.PermgraphError, match=message):
        aligned("mlp", "permutation").apply(tensors, **options)


def test_a_vector_of_no_stream_is_refused() -> None:
    with pytest.raises(pg.SpecMismatchError, match=r"no residual streams that move have vectors of 12; .* none that"):
        aligned("mlp", "permutation").stream(torch.zeros(12))
    with pytest.raises(pg.SpecMismatchError, match=r"no .* at elsewhere; the model's streams: 32 at model.layers.0"):
        aligned("llama", "permutation").stream(torch.zeros(32), at="elsewhere")
