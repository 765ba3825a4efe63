"""What a comparison says of where a model comes from: fine-tunes, protected copies, independent seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from compared_models import IDS, bert, disturbed
from torch import Tensor, nn

import permgraph as pg
from permgraph.uses.comparison.chance import p_value


def tuned(model: nn.Module, rate: float) -> nn.Module:
    """A few steps of a training."""
    found = copy.deepcopy(model)
    optimizer = torch.optim.SGD(found.parameters(), rate)
    for _ in range(3):
        optimizer.zero_grad()
        found(**IDS).last_hidden_state.square().mean().backward()
        optimizer.step()
    return found.eval()


def test_origins_are_told() -> None:
    """A fine-tune in the basis of its origin, and one that was moved; another initialisation."""
    a = bert(0)
    other = tuned(a, 0.1)
    spec = pg.derive(a, (), IDS, kinds="all")
    hidden = copy.deepcopy(other)
    hidden.load_state_dict(spec.apply(spec.sample(0), other.state_dict()))
    here, there, else_ = (pg.compare(a, b, kwargs=IDS) for b in (other, hidden, bert(1)))
    assert (here.verdict, there.verdict, else_.verdict) == ("related", "related", "independent")
    assert here.p_value == 0.001
    assert there.p_value > 0.001
    assert there.whole.aligned > 0.999 > 0.99 > there.whole.unmoved
    assert else_.chance is None or else_.excess < 0.5
    assert set(here.layers) == {"embeddings", "pooler", "encoder.layer.0", "encoder.layer.1"}


def halves(layer: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """(query, key) and (value, output): what is multiplied in the one and divided in the other."""
    own = layer.attention.self
    return [(own.query, own.key), (own.value, layer.attention.output.dense)]


def locked(layer: nn.Module) -> None:
    """Invertible maps of queries against keys and of values against the output, by head: arXiv 2509.01548."""
    for one, other in halves(layer):
        for h in range(4):
            rows, map_ = slice(8 * h, 8 * h + 8), torch.eye(8) + 0.3 * torch.randn(8, 8)
            one.weight[rows], one.bias[rows] = map_ @ one.weight[rows], map_ @ one.bias[rows]
            inverse = torch.linalg.inv(map_)
            if other is layer.attention.output.dense:
                other.weight[:, rows] = other.weight[:, rows] @ inverse
            else:
                other.weight[rows], other.bias[rows] = inverse.T @ other.weight[rows], inverse.T @ other.bias[rows]


def rearranged(layer: nn.Module) -> None:
    """Feed-forward units in another order, and heads that are scaled: arXiv 2503.07661."""
    order, up, down = torch.randperm(64), layer.intermediate.dense, layer.output.dense
    up.weight.copy_(up.weight[order].clone())
    up.bias.copy_(up.bias[order].clone())
    down.weight.copy_(down.weight[:, order].clone())
    for one, other in halves(layer):
        scale = (torch.rand(4) + 0.5).repeat_interleave(8)
        one.weight.mul_(scale[:, None])
        one.bias.mul_(scale)
        if other is layer.attention.output.dense:
            other.weight.div_(scale)
        else:
            other.weight.div_(scale[:, None])
            other.bias.div_(scale)


def protected(model: nn.Module, how: Callable[[nn.Module], None]) -> nn.Module:
    """A copy that computes the same and cannot be averaged with the model."""
    found = copy.deepcopy(model)
    torch.manual_seed(11)
    with torch.no_grad():
        for layer in found.encoder.layer:
            how(layer)
    return found


@pytest.mark.parametrize("how", [locked, rearranged])
def test_protections_are_seen_through_and_undone(how: Callable[[nn.Module], None]) -> None:
    """The merge of A with a protected relative is that with the relative itself."""
    model, other = bert(0), disturbed(bert(0), 0.01)
    hidden = protected(other, how)
    found = pg.compare(model, hidden, kwargs=IDS)
    assert found.verdict == "related"
    assert found.whole.unmoved < 0.98 < 0.9999 < found.whole.aligned
    states = (other.state_dict(), hidden.state_dict(), *(pg.merge(model, one) for one in (other, hidden)))
    states += (pg.merge(model, hidden, alignment=found.alignment),)
    one, same, expected, broken, merged = (outputs_of(model, state) for state in states)
    torch.testing.assert_close(same, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
    assert (broken - expected).abs().max() > 1e-3


def outputs_of(model: nn.Module, state: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.func.functional_call(model, state, (), IDS).last_hidden_state


@pytest.mark.slow
def test_the_p_value_is_uniform_where_models_are_independent() -> None:
    """P(p ≤ α) = α, for networks trained from seeds of their own on one task."""
    x, batch = torch.randn(64, 4), torch.randn(2, 4)
    spec = pg.derive(task_net(0, x), batch)
    states = [task_net(seed, x).state_dict() for seed in range(600)]
    found = [p_value(spec, *states[k : k + 2], seed=k, draws=99) for k in range(0, len(states), 2)]
    for level in (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9):
        share, error = np.mean(np.array(found) <= level), (level * (1 - level) / len(found)) ** 0.5
        assert abs(share - level) < 3.5 * error, level


def task_net(seed: int, x: Tensor) -> nn.Module:
    """A few steps towards one function, from a seed."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        (model(x) - x[:, :3].sin()).square().mean().backward()
        optimizer.step()
    return model.eval()
