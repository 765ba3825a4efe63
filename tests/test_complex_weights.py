"""Complex weights are merged and healed as their real and imaginary parts are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg

X = [torch.randn(16, 6, generator=torch.Generator().manual_seed(k)) for k in range(4)]


class Filter(nn.Module):
    """A product of a spectrum with complex weights, as in Fourier neural operators."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inner = nn.Linear(6, 6)
        self.weight = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(self.inner(x)) @ self.weight, n=6)


A, B = Filter(1).eval(), Filter(2).eval()


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_merge_has_the_mean_of_complex_weights(method: str) -> None:
    merged = pg.merge(A, B, weight=0.25, method=method)["weight"]
    assert merged.dtype == torch.complex64
    parts = [pg.merge(*pair, weight=0.25, method=method)["weight"] for pair in [real(A, B)]]
    torch.testing.assert_close(torch.view_as_real(merged), parts[0])
    many = pg.merge_many([A, B], [{}, {}], weights=[0.25, 0.75], spec=pg.derive(A, (X[0],)))["weight"]
    torch.testing.assert_close(many, 0.25 * A.weight + 0.75 * B.weight)


def real(*models: Filter) -> list[nn.Module]:
    """Models with the same numbers as real ones."""
    found = []
    for model in models:
        one = nn.Module()
        one.weight = nn.Parameter(torch.view_as_real(model.weight.detach()).clone())
        found.append(one)
    return found


def test_complex_weights_are_healed() -> None:
    merged = pg.merge(A, B)
    healed = pg.heal(merged, A, B, X, steps=20, rate=1e-2)
    assert healed["weight"].dtype == torch.complex64
    assert float((healed["weight"] - merged["weight"]).abs().max()) > 0.01


def test_complex_weights_that_are_not_finite_are_refused() -> None:
    wrong = Filter(3).eval()
    with torch.no_grad():
        wrong.weight[0, 0] = complex(0, torch.inf)
    with pytest.raises(pg.NonFiniteError, match=r"weight \(1 of 16 values\)"):
        pg.merge(A, wrong)
