"""What the figures of a gain mean, for every way to match: one unit each, at most 1, and 1 for the same function."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import permgraph as pg
from permgraph.matching.gains_report import gain_rows, unit_of
from permgraph.matching.kinds.balance import balance
from permgraph.merging.shares import correlation_shares

X = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def normed(seed: int) -> nn.Module:
    """Convolutions, norms with statistics and ReLUs: the units of a norm have signs before it and scales after it."""
    torch.manual_seed(seed)
    norms = [nn.BatchNorm2d(size, momentum=1.0) for size in (6, 8)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
    layers = [first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8, 4))
    model(X)  # the statistics of the norms
    return model.eval()


def data() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return iter([torch.randn(64, 3, 8, 8, generator=generator) for _ in range(4)])


def aligned(b: nn.Module, kinds: str, how: dict[str, Any], a: nn.Module | None = None) -> pg.Alignment:
    seen = {} if how.get("method") == "weights" else {"data": list(data())}
    return pg.align(a or normed(0), b, args=(X,), kinds=kinds, **seen, **how)


HOW: dict[str, tuple[dict[str, Any], set[str]]] = {
    "weights": ({"method": "weights"}, {"weights"}),
    "correlation": ({"method": "correlation"}, {"correlation", "weights"}),
    "mix": ({"mix": 0.5}, {"mix"}),
}
EVERY = pytest.mark.parametrize(("kinds", "how"), [(kinds, how) for kinds in ("permutation", "all") for how in HOW])


@EVERY
def test_gains_are_shares_of_what_is_possible(kinds: str, how: str) -> None:
    options, measures = HOW[how]
    found = aligned(normed(1), kinds, options)
    assert {gain.measure for gain in found.gains.values()} <= measures
    for name, gain in found.gains.items():
        assert all(abs(share) <= 1 for share in gain.shares), name
    assert found.method in {gain.measure for gain in found.gains.values()}


def test_gains_of_learning_are_shares_too() -> None:
    """Scales that learning changes make B's weights larger or smaller."""
    found = aligned(normed(1), "all", {"method": "learned", "steps": 12, "rate": 0.2})
    own = found.reference, found.models.states[1], found.state_dict
    a, b, moved = (state["0.weight"].norm() for state in own)
    assert not torch.isclose(b, moved, rtol=1e-2)
    for name, gain in found.gains.items():
        assert all(abs(share) <= 1 for share in gain.shares), name
    assert found.gains["0.channels"].bound >= a * max(b, moved)


@EVERY
def test_gains_of_the_same_function_are_one(kinds: str, how: str) -> None:
    a = normed(0)
    spec, b = pg.derive(a, X, kinds=kinds), copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(3), b.state_dict()))
    found = aligned(b, kinds, HOW[how][0], a)
    for name, gain in found.gains.items():
        assert gain.shares[1] == pytest.approx(1, abs=1e-4), name
        assert gain.shares[0] < 0.9, name
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(found.state_dict[name], tensor, atol=1e-5, rtol=1e-5, msg=name)


def test_scales_do_not_change_what_correlates() -> None:
    """Correlations know no scales, so that units go to the same places with and without them."""
    signed, every = (aligned(normed(1), kinds, {"method": "correlation"}) for kinds in ("signed", "all"))
    for name in ("0.channels", "3.channels"):
        assert every.gains[name].solution == pytest.approx(signed.gains[name].solution, rel=1e-4)


def test_the_representative_of_smallest_norm_computes_the_same() -> None:
    model = normed(0)
    spec, state = pg.derive(model, X, kinds="all"), model.state_dict()
    _, moved = balance(spec, state, [group.name for group in spec.groups])
    assert not torch.equal(moved["1.running_mean"], state["1.running_mean"])
    with torch.no_grad():
        torch.testing.assert_close(torch.func.functional_call(model, dict(moved), X), model(X), atol=1e-5, rtol=1e-5)


def test_rows_of_another_unit_have_a_mark_that_is_explained() -> None:
    found = aligned(normed(1), "all", {"method": "correlation"})
    marked = [row[0] for row in gain_rows(found) if row[0].endswith(" *")]
    assert marked == ["0–1,3–4.channels.scales *"]
    assert unit_of(found) == (
        "mean correlation of matched units; *: inner product of matched weights, as a share of its upper bound"
    )
    assert "*" not in unit_of(aligned(normed(1), "all", {"method": "weights"}))


@pytest.mark.parametrize("kinds", ["permutation", "signed", "all"])
def test_shares_from_correlation_are_those_of_the_correlations(kinds: str) -> None:
    found = aligned(normed(1), kinds, {"method": "correlation"})
    known = {name: gain.solution for name, gain in found.gains.items() if gain.measure == "correlation"}
    assert known.keys() == {"0.channels", "3.channels"}
    assert all(0 < solution < 0.9 for solution in known.values())
    wanted = {name: 1 - 0.5 * solution for name, solution in known.items()}
    assert correlation_shares(found) == pytest.approx(wanted | {"default": 0.5})
