"""Products with matrices of low rank: the shortened pair has the same product, and what acts on the other side acts."""

import pytest
import torch

from permgraph.symmetry.proof.low_rank import RANK, shortened


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize(
    ("rank", "is_short"), [(0, True), (8, True), (RANK, True), (RANK + 1, False), (200, False)], ids=str
)
def test_the_product_stays(rank, is_short, dim):
    value, other, mixing = drawn(300, 400), drawn(300, rank) @ drawn(rank, 400), drawn(*([400, 300][dim],) * 2)
    short, gradient = shortened(value, other, dim)
    assert (short.shape[dim] == RANK) is is_short
    moved = (short @ mixing, value @ mixing) if dim == 0 else (mixing @ short, mixing @ value)
    for one, whole in ((short, value), moved):
        bound = 1e-13 * float(whole.norm() * other.norm())
        assert float((one * gradient).sum()) == pytest.approx(float((whole * other).sum()), abs=bound)


def test_a_small_matrix_is_left_alone():
    value, other = drawn(20, 400), drawn(20, 2) @ drawn(2, 400)
    short, gradient = shortened(value, other, 0)
    assert short is value
    assert gradient is other
