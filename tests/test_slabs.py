"""Large weights are worked on a slab at a time: the result is that of the whole, and freed memory goes back."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from pairs import PLANTED

from permgraph.matching.weights import freed_memory, objective, similarities
from permgraph.matching.weights.doubly_stochastic import Mixture, gather
from permgraph.matching.weights.effort import Sizes
from permgraph.matching.weights.objective import dot, matched, slabs
from permgraph.matching.weights.search import match_weights


@pytest.mark.parametrize(("count", "size", "of"), [(7, 70, None), (7, 70, 3), (7, 7, None), (1, 500, None), (5, 0, 0)])
def test_slabs_cover_every_row_once_and_keep_their_size(count, size, of, monkeypatch):
    monkeypatch.setattr(objective, "SIZES", Sizes(slab=20))
    found = list(slabs(count, size, of))
    rows = [row for some in found for row in range(some.start, some.stop)]
    assert rows == list(range(count if of is None else of))
    assert all((some.stop - some.start - 1) * size < 20 * count for some in found)


@pytest.mark.parametrize("name", list(PLANTED))
def test_matching_does_not_depend_on_the_slabs(name, monkeypatch):
    pair = PLANTED[name]()
    noise = torch.Generator().manual_seed(0)
    b = {k: v + 0.3 * v.std() * torch.randn(v.shape, generator=noise) for k, v in pair.b.state_dict().items()}
    found = []
    for size in (2**19, 32):
        for module in (objective, similarities):
            monkeypatch.setattr(module, "SIZES", Sizes(slab=size))
        found.append(match_weights(pair.spec, pair.spec.groups, pair.a.state_dict(), b))
    one, other = found
    assert all(np.array_equal(one.tables[group], other.tables[group]) for group in one.tables)
    assert one.search.objective == pytest.approx(other.search.objective, rel=1e-12)


@pytest.mark.parametrize("spans", [((0,), (1,)), ((1,), (0,)), ((1,),), ((0, 1),)])
def test_an_inner_product_in_slabs_is_that_of_the_whole(spans, monkeypatch):
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 4, 3, dtype=torch.float64)
    order = np.random.default_rng(0)
    indices = [order.permutation(np.prod([a.shape[atom] for atom in span])) for span in spans]
    whole = dot(a, gather(b, spans, indices))
    monkeypatch.setattr(objective, "SIZES", Sizes(slab=24))
    assert matched(a, b, spans, indices) == pytest.approx(whole, rel=1e-12)


def mixtures() -> dict[str, Mixture]:
    """Of 6 units: a vertex, the barycentre, the same in two blocks, between them, and one that acts as a matrix."""
    order = np.random.default_rng(0)
    centre, blocks = Mixture(6, 1, 1.0), Mixture(6, 2, 1.0)
    many = centre
    for _ in range(12):
        many = many.toward(order.permutation(6), 0.2)
    return {
        "vertex": centre.toward(order.permutation(6), 1.0),
        "barycentre": centre,
        "two blocks": blocks.toward(np.array([1, 0, 2, 5, 4, 3]), 0.3),
        "between": centre.toward(order.permutation(6), 0.4).toward(order.permutation(6), 0.5),
        "many": many,
    }


@pytest.mark.parametrize("rows", [slice(0, 6), slice(2, 5), slice(5, 6)])
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("name", list(mixtures()))
def test_rows_of_a_mixture_are_those_of_its_matrix(name, dim, rows):
    mixture = mixtures()[name]
    tensor = torch.randn(6, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = (
        torch.tensordot(mixture.dense, tensor, ([1], [dim]))
        .movedim(0, dim)
        .narrow(dim, rows.start, rows.stop - rows.start)
    )
    torch.testing.assert_close(mixture.act(tensor, dim, rows), wanted, rtol=1e-12, atol=1e-12)


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries hand memory back by themselves")
def test_what_was_freed_between_living_blocks_goes_back():
    torch.ones(2**20).sum()  # from here on blocks of its size come from the heap
    blocks = [(torch.ones(2**20), torch.ones(64)) for _ in range(25)]
    living = [small for _, small in blocks]
    full = resident_mb()
    del blocks
    freed_memory.return_freed()
    assert resident_mb() < full - 75
    assert len(living) == 25


def test_where_the_library_cannot_hand_memory_back_nothing_happens(monkeypatch):
    class Other:
        """A C library without malloc_trim."""

    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: Other())
    freed_memory._trim.cache_clear()
    try:
        assert freed_memory._trim() is None
        freed_memory.return_freed()
    finally:
        freed_memory._trim.cache_clear()
