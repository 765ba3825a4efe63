"""Activations and weights in one objective, points with weights, and the identity among the candidates."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from pairs import PLANTED, hubert, mlp, plant, vectors
from torch import nn

import permgraph as pg
from permgraph.assignment.solve import Term, objective
from permgraph.errors import CalibrationError, OptionError
from permgraph.matching.weights.objective import Pairing
from permgraph.matching.weights.search import match_weights


def noisy(model: nn.Module, noise: float, seed: int = 0) -> nn.Module:
    """A copy with normal noise on every parameter, in units of its standard deviation."""
    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(noise * parameter.std(correction=0) * torch.randn_like(parameter))
    return other


SLOW = {"llama", "gpt2"}


@pytest.mark.parametrize("mix", [0.3, 0.9])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in PLANTED])
def test_a_planted_element_is_recovered_at_every_mix(name: str, mix: float) -> None:
    planted = PLANTED[name]()
    found = pg.align(planted.a, planted.b, planted.batches, spec=planted.spec, mix=mix)
    assert planted.recovered(found.permutations) == [group.name for group in planted.spec.groups]
    assert found.method == "mix"
    for gain in found.gains.values():
        assert gain.identity <= gain.solution + 1e-6
        assert (gain.solution, gain.bound) == pytest.approx((1, 1), rel=1e-3)


def test_the_ends_of_the_mix_are_the_two_methods() -> None:
    a, b = mlp(), noisy(mlp(), 2.0)
    by_weights, by_correlation = pg.align(a, b, args=(vectors()[0],)), pg.align(a, b, vectors())
    assert pg.align(a, b, vectors(), mix=0).permutations == by_weights.permutations
    assert pg.align(a, b, vectors(), mix=1).permutations == by_correlation.permutations
    assert pg.align(a, b, vectors(), mix=1e-6).permutations == by_weights.permutations
    assert by_weights.permutations != by_correlation.permutations
    assert [pg.align(a, b, vectors(), mix=mix).method for mix in (0, 0.5, 1)] == ["weights", "mix", "correlation"]


@pytest.mark.parametrize("mix", [0.2, 0.8])
def test_a_mix_is_the_objective_that_it_says(mix: float) -> None:
    """(1 - mix) F / F_max + mix C / C_max, up to a factor, at any element; and the best of all elements is found."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    spec = pg.derive(model, (torch.randn(2, 3),))
    a, b = model.state_dict(), {k: torch.randn_like(v) for k, v in model.state_dict().items()}
    random = np.random.default_rng(0)
    one, two = spec.groups
    terms = [Term((g.name,), random.uniform(-1, 1, (g.size, g.size)) * w, w) for g, w in ((one, 1.0), (two, 0.5))]
    plain = Pairing.of(spec, spec.groups, a, b)
    both = plain.with_activations(terms, mix)
    most, pairs = sum(map(plain.bound, plain.sites)), one.size + 0.5 * two.size

    def mixed(tables: dict[str, Any]) -> float:
        return (1 - mix) * plain.value(tables) / most + mix * objective(spec.groups, terms, tables) / pairs

    every = [
        {one.name: np.array(p), two.name: np.array(q)}
        for p in itertools.permutations(range(one.size))
        for q in itertools.permutations(range(two.size))
    ]
    for tables in every[::17]:
        assert both.value(tables) * (1 - mix) / most == pytest.approx(mixed(tables))
    found = match_weights(spec, spec.groups, a, b, activations=terms, mix=mix)
    assert mixed(found.tables) == pytest.approx(max(map(mixed, every)), rel=0.05)
    assert found.search.objective == pytest.approx(both.value(found.tables))
    assert found.search.objective <= found.search.bound


@pytest.mark.parametrize("options", [{"method": "weights"}, {"method": "correlation"}, {"mix": 0.5}], ids=str)
@pytest.mark.parametrize("name", ["mlp", "hubert"])
def test_a_fine_tuned_copy_stays_where_it_is(name: str, options: dict[str, Any]) -> None:
    planted = PLANTED[name]()
    found = pg.align(planted.a, noisy(planted.a, 0.05), planted.batches, spec=planted.spec, **options)
    assert found.permutations == planted.spec.identity()
    for gain in found.gains.values():
        assert gain.identity == pytest.approx(gain.solution)
        assert gain.solution <= gain.bound * (1 + 1e-6)


ABLATIONS: tuple[tuple[list[str], dict[str, Any]], ...] = (
    (["conv"], {"method": "weights"}),
    (["feed_forward", "conv"], {"method": "correlation"}),
    (["attention"], {"method": "weights"}),
    (["residual"], {"mix": 0.5}),
    (["attention.vo", "conv"], {"method": "weights"}),
    (["attention.vo", "conv"], {"mix": 0.5}),
)


@pytest.mark.parametrize(("roles", "options"), ABLATIONS, ids=str)
def test_only_the_roles_asked_for_move(roles: list[str], options: dict[str, Any]) -> None:
    planted = hubert()
    found = pg.align(planted.a, planted.b, planted.batches, spec=planted.spec, groups=roles, **options)
    identity = planted.spec.identity()
    chosen = {g.name for g in planted.spec.groups if any(g.role == r or g.role.startswith(f"{r}.") for r in roles)}
    assert chosen
    assert set(found.gains) == chosen
    for group in planted.spec.groups:
        if group.name not in chosen:
            assert (found.permutations[group.name] == identity[group.name]).all()
    for gain in found.gains.values():
        assert gain.identity <= gain.solution + 1e-9
        assert gain.solution <= gain.bound * (1 + 1e-6)


def test_dead_and_constant_units_stay() -> None:
    """Units that ReLU never lets through, or that are constant, in both models: by correlation they do not move."""
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 2)).eval()
    dead = [2, 7, 11]
    with torch.no_grad():
        a[0].bias[dead[:2]] = -100.0
        a[0].weight[dead[2]], a[0].bias[dead[2]] = 0.0, 3.0
    spec = pg.derive(a, (vectors()[0],))
    table = np.arange(12)
    alive = [k for k in range(12) if k not in dead]
    table[alive] = np.random.default_rng(0).permutation(alive)
    element = pg.Permutations({spec.groups[0].name: table})
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(element, a.state_dict()))
    found = pg.align(a, b, vectors(), spec=spec)
    assert found.permutations == spec.invert(element)


def wide() -> nn.Module:
    """One stream that is read at three points."""

    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(5, 6), nn.Linear(6, 2)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6)) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embed(x)
            for block in self.blocks:
                x = x + block(x)
            return self.head(x)

    torch.manual_seed(0)
    return Stream().eval()


def test_points_have_weights() -> None:
    a, b = wide(), noisy(wide(), 1.0)
    whole = pg.align(a, b, vectors())
    assert pg.align(a, b, vectors(), point_weights={"residual": [2, 2, 2]}).permutations == whole.permutations
    apart = [
        pg.align(a, b, vectors(), point_weights={"residual": [float(k == j) for j in range(3)]}).gains["residual"]
        for k in range(3)
    ]
    evenly = whole.gains["residual"]
    assert sum(gain.identity for gain in apart) / 3 == pytest.approx(evenly.identity)
    assert sum(gain.solution for gain in apart) / 3 >= evenly.solution
    assert len({round(gain.identity, 6) for gain in apart}) == 3
    first = pg.align(a, b, vectors(), point_weights={"residual": [5, 1, 0]})
    assert first.gains["residual"].identity == pytest.approx((5 * apart[0].identity + apart[1].identity) / 6)
    kept = [c for c in first.partners if c.groups == ("residual",)]
    assert len(kept) == 2
    assert kept[0].identity.mean() == pytest.approx(apart[0].identity, rel=1e-5)


REFUSED: dict[str, tuple[type[Exception], dict[str, Any], str]] = {
    "share": (OptionError, {"mix": 1.5}, "from 0 .weights alone. to 1 .correlation., not 1.5"),
    "both": (OptionError, {"mix": 0.5, "method": "weights"}, "give method 'weights' or mix 0.5, not both"),
    "unknown key": (OptionError, {"point_weights": {"nobody": [1]}}, "'nobody' is the name or role of no group"),
    "negative": (
        OptionError,
        {"point_weights": {"residual": [1, -1, 0]}},
        "weights must be at least 0, and one must be above 0",
    ),
    "all zero": (OptionError, {"point_weights": {"residual": [0, 0, 0]}}, "and one must be above"),
    "too few": (
        OptionError,
        {"point_weights": {"residual": [1]}},
        "1 weights, and residual is compared at 3 points",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    error, options, message = REFUSED[case]
    with pytest.raises(error, match=message):
        pg.align(wide(), wide(), vectors(), **options)


def test_a_mix_needs_data() -> None:
    with pytest.raises(CalibrationError, match="compares activations"):
        pg.align(mlp(), mlp(), args=(vectors()[0],), mix=0.5)
    assert plant(mlp(), vectors()).spec.groups
    assert pg.align(mlp(), mlp(), args=(vectors()[0],), mix=0).method == "weights"
