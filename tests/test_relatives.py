"""Fine-tunes of one base are recognised unmoved; models that were trained apart, or moved, are not called relatives."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import folders
import pytest
import torch
from commands import run
from pairs import mlp
from safetensors.torch import load_file, save_file
from torch import nn

import permgraph as pg

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)).eval()


def tuned(model: nn.Module, noise: float, seed: int = 7) -> nn.Module:
    torch.manual_seed(seed)
    found = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return found


def of_one_base(model: nn.Module, frozen: slice) -> nn.Module:
    """Another model with these layers of `model`, the others trained apart."""
    found = net(1)
    found[frozen].load_state_dict(model[frozen].state_dict())  # type: ignore[index]
    return found


def quantised(model: nn.Module, levels: int = 7) -> nn.Module:
    found = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in found.parameters():
            step = parameter.abs().max() / levels
            parameter.copy_((parameter / step).round() * step)
    return found


def shuffled(model: nn.Module) -> nn.Module:
    spec, found = pg.derive(model, (X,)), copy.deepcopy(model)
    found.load_state_dict(spec.apply(spec.sample(1), model.state_dict()))
    return found


def positive(model: nn.Module) -> nn.Module:
    """The same with a mean that all trainings of such a kind share."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    return model


B = {
    "the same": (lambda a: copy.deepcopy(a), True),
    "a fine-tune": (lambda a: tuned(a, 0.02), True),
    "a fine-tune for long": (lambda a: tuned(a, 0.1), True),
    "in 4 bits": (quantised, True),
    "trained apart": (lambda a: net(1), False),
    "moved": (lambda a: shuffled(tuned(a, 0.02)), False),
}


@pytest.mark.parametrize("kinds", ["permutation", "all"])
@pytest.mark.parametrize("name", B)
def test_relatives_as_they_stand_are_told(name: str, kinds: str) -> None:
    make, expected = B[name]
    a = net(0)
    found = pg.align(a, make(a), args=(X,), kinds=kinds)
    assert (found.related is not None) is expected
    assert ("are relatives: the cosine" in str(found)) is expected
    assert ("are relatives" in found._repr_html_()) is expected
    if found.related is not None:
        assert found.related.cosine > 0.5
        assert found.related.p_value <= 0.01


@pytest.mark.parametrize("frozen", [slice(0, 3), slice(2, 5)], ids=["first", "last"])
def test_layers_of_one_base_are_told_of_others(frozen: slice) -> None:
    a = net(0)
    found = pg.align(a, of_one_base(a, frozen), args=(X,)).related
    assert found is not None
    assert "a part of A and B are relatives" in str(found) or found.cosine > 0.5
    assert 0.1 < found.share < 1
    assert pg.align(a, shuffled(of_one_base(a, frozen)), args=(X,)).related is None


def test_a_mean_that_all_weights_share_is_no_kinship() -> None:
    assert pg.align(positive(net(0)), positive(net(1)), args=(X,)).related is None


def test_where_no_matrix_moves_nothing_is_said() -> None:
    model = nn.Linear(6, 3).eval()
    assert pg.align(model, copy.deepcopy(model), args=(X,)).related is None
    assert pg.align(mlp(), mlp(), args=(torch.randn(2, 5),), groups=()).related is not None


@pytest.mark.parametrize("command", ["align", "merge"])
def test_the_command_line_says_so_and_writes_it_down(tmp_path: Path, command: str) -> None:
    a, b = (folders.bert(tmp_path / name, seed=1) for name in "ab")
    state = load_file(b / "model.safetensors")
    noise = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in state.items()}
    save_file(noise, b / "model.safetensors", metadata={"format": "pt"})
    told = run(command, a, b, "--out", tmp_path / "out")
    assert "as they stand, A and B are relatives" in " ".join(told.stderr.split())
    assert json.loads((tmp_path / "out" / "permgraph.json").read_text())["related"]["cosine"] > 0.9
    c = folders.bert(tmp_path / "c", seed=5)
    assert "relatives" not in run(command, a, c, "--out", tmp_path / "apart").stderr
    assert json.loads((tmp_path / "apart" / "permgraph.json").read_text())["related"] is None
