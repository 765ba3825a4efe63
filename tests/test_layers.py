"""Layers as matrices: which are found, and that each is its matrix on its rows."""

from __future__ import annotations

import pytest
import torch
from merging_cases import MODELS, program_of
from torch import nn

from permgraph.comparing.layers import find_layers
from permgraph.tracing.capture import capture


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_an_even_kernel_has_its_odd_zero_after_the_input() -> None:
    layer = nn.Conv2d(3, 4, (2, 4), padding="same").eval()
    x = torch.randn(2, 3, 6, 5)
    found = next(find_layers(capture(layer, (x,))).single)
    y = torch.einsum("gfi,goi->fgo", found.rows(x), found.matrix(layer.weight)).flatten(1) + layer.bias
    torch.testing.assert_close(y, found.outputs(layer(x)))


@pytest.mark.parametrize("name", MODELS)
def test_a_layer_is_its_matrix_on_its_rows(name: str) -> None:
    program, two = program_of(name)
    seen, state = two.seen(two.a), two.a.state_dict()
    layers = [use for uses in find_layers(program).found.values() for use in uses]
    assert layers
    for layer in layers:
        y = torch.einsum("gfi,goi->fgo", layer.rows(seen[layer.source]), layer.matrix(state[layer.weight])).flatten(1)
        y = y if layer.bias is None else y + state[layer.bias]
        torch.testing.assert_close(y, layer.outputs(seen[layer.node]), atol=1e-5, rtol=1e-5)
        weight = state[layer.weight]
        assert torch.equal(layer.restored(layer.matrix(weight), weight.shape), weight)


FOUND = {  # the number of weights, and what is said of those that are left
    "mlp": (3, set()),
    "tail": (3, set()),
    "convs": (5, set()),
    "resnet": (6, set()),
    "hubert": (7 + 1 + 2 * 6, {"its weight is computed from other parameters"}),
    "bert": (2 * 6 + 1, set()),
    "gpt2": (2 * 4, {"transformer.wte.weight is used in another way too"}),
}


@pytest.mark.parametrize("name", FOUND)
def test_layers_are_found(name: str) -> None:
    layers = find_layers(program_of(name)[0])
    assert (len(layers.found), set(layers.left.values())) == FOUND[name]
