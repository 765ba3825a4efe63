"""What activations alone do not tell about a planted element of all kinds, and weights beside them do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny_models import SMALL
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

import permgraph as pg


class Net(nn.Module):
    """BatchNorms between layers and odd functions, with a sum: units have two signs, and activations their product."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 12)
        self.na, self.nb, self.nc = nn.BatchNorm1d(16), nn.BatchNorm1d(16), nn.BatchNorm1d(12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.na(self.a(x)))
        x = x + torch.tanh(self.nb(self.b(x)))
        found: Tensor = self.out(torch.tanh(self.nc(self.c(x))))
        return found


def convolutions() -> nn.Module:
    layers = [nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.Tanh(), nn.Conv2d(12, 16, 3), nn.BatchNorm2d(16), nn.Tanh()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def generic(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand_like(tensor))
            elif tensor.dim() > 1:
                tensor.copy_(torch.randn_like(tensor) * tensor[0].numel() ** -0.5)
            elif tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn_like(tensor))
    return model.eval()


def one_head() -> nn.Module:
    sizes: dict[str, Any] = {"num_attention_heads": 1, "num_hidden_layers": 1}
    return ViTForImageClassification(ViTConfig(**(SMALL | sizes), image_size=32, patch_size=16, num_labels=5))


def moved(model: nn.Module, inputs: Tensor, kinds: str) -> nn.Module:
    spec, other = pg.derive(model, (inputs,), kinds=kinds), copy.deepcopy(model)
    other.load_state_dict(spec.apply(spec.sample(3), model.state_dict()))
    return other


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


CASES = {
    "signs that meet in a BatchNorm": (Net, rows(64, 5)),
    "the same of channels": (convolutions, rows(16, 3, 12, 12)),
    "maps of more units than there are frames": (one_head, rows(3, 3, 32, 32)),
}


@pytest.mark.parametrize("kinds", ["signed", "all"])
@pytest.mark.parametrize("name", CASES)
def test_a_planted_element_comes_back_whole(name: str, kinds: str) -> None:
    build, inputs = CASES[name]
    a = generic(build())
    aligned = pg.align(a, moved(a, inputs, kinds), [(inputs,)], kinds=kinds)
    assert aligned.method == "correlation"
    for key, tensor in aligned.reference.items():
        assert torch.allclose(tensor, aligned.state_dict[key], rtol=0, atol=1e-3 * float(tensor.abs().max())), key


class Heads(nn.Module):
    """Six heads on a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(16, 48), nn.Linear(48, 16)
        self.q, self.k, self.v, self.out = (nn.Linear(48, 48) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (layer(x).unflatten(-1, (6, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        found: Tensor = self.head(x + self.out(mixed))
        return found


@pytest.mark.parametrize("seed", range(6))
def test_heads_are_told_apart_whose_activations_vary_in_one_direction(seed: int) -> None:
    """Some map inside a head brings any other near it there; weights tell which it is, also under noise of .7."""
    torch.manual_seed(seed)
    a, inputs = Heads().eval(), torch.randn(2, 5, 16)
    for layer in (a.q, a.k, a.v):
        layer.bias.data *= 3
    spec, b = pg.derive(a, (inputs,), kinds="all"), copy.deepcopy(a)
    noisy = {name: value + 0.7 * value.std() * torch.randn_like(value) for name, value in a.state_dict().items()}
    planted = spec.sample(seed)
    b.load_state_dict(spec.apply(planted, noisy))
    direction = torch.randn(1, 16)
    data = [torch.randn(8, 5, 1) @ direction for _ in range(4)]
    found = pg.align(a, b, data, spec=spec, kinds="all", method="correlation").permutations
    [heads] = [group.name for group in spec.groups if group.kind == "permutation"]
    assert found[heads].tolist() == spec.invert(planted)[heads].tolist()
