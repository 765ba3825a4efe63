"""Units that are constant on the data: they are matched by weights, and the others as without them."""

import numpy as np
import pytest
import torch
from torch import nn

import permgraph as pg
from permgraph.matching.dead_units import dead_units


def net(seed, dead=5):
    """An MLP in which `dead` units of each hidden layer never fire."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 3)).eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.bias[:dead] -= 30
    return model


@pytest.fixture(scope="module")
def data():
    torch.manual_seed(0)
    return [torch.randn(32, 6) for _ in range(4)]


@pytest.mark.parametrize("kinds", ["permutation", "all"])
def test_a_planted_element_is_found_by_data(kinds, data):
    a, b = net(0), net(1)
    spec = pg.derive(a, (data[0],), kinds=kinds)
    b.load_state_dict(spec.apply(spec.sample(3), a.state_dict()))
    state = pg.align(a, b, data, kinds=kinds).state_dict
    assert max((state[name] - tensor).abs().max().item() for name, tensor in a.state_dict().items()) < 1e-5


def test_live_units_are_matched_as_before(data, monkeypatch):
    a, b = net(0), net(1, dead=8)
    found = pg.align(a, b, data)
    monkeypatch.setattr("permgraph.matching.methods.correlation.dead_units", lambda *_: {})
    plain = pg.align(a, b, data)
    assert found.gains == plain.gains
    for name, table in found.permutations.tables.items():
        differ = np.flatnonzero(table != plain.permutations[name])
        assert 0 < len(differ) <= 5
        assert set(differ) <= set(range(5))


def test_where_units_are_dead(data):
    spec = pg.derive(net(0), (data[0],))
    matrix = np.ones((20, 20))
    matrix[:3], matrix[:, 4:6] = 0, 0
    first = spec.groups[0]
    (a, b) = dead_units(spec.groups, [((first.name,), matrix)])[first.name]
    assert (list(a), list(b)) == ([0, 1, 2], [4, 5])
    assert not dead_units(spec.groups, [((first.name,), np.ones((20, 20)))])
    assert not dead_units(spec.groups, [((first.name, "other"), matrix)])
