"""How calibration data is cut into batches, and padded, does not decide which units are matched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import BertConfig, BertModel

import permgraph as pg
from permgraph.comparing.frames import Point
from permgraph.symmetry.elements.cells import Cell, Leaf

ROWS, LENGTHS = 24, (12, 9, 15)


def encoder(seed: int) -> nn.Module:
    """A BERT with a pooler, which reads the first position alone."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 36, "num_hidden_layers": 2}
    model = BertModel(BertConfig(vocab_size=50, max_position_embeddings=40, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def texts(length: int) -> Tensor:
    return torch.randint(50, (ROWS, length), generator=torch.Generator().manual_seed(length))


def cut(rows: Tensor, sizes: tuple[int, ...], padding: tuple[int, int] = (0, 0)) -> Iterator[dict[str, Tensor]]:
    """Batches of these sizes in turn, padded at the left and at the right, with masks."""
    start, turn = 0, 0
    while start < len(rows):
        ids = rows[start : start + sizes[turn % len(sizes)]]
        yield {"input_ids": pad(ids, padding), "attention_mask": pad(torch.ones_like(ids), padding)}
        start, turn = start + len(ids), turn + 1


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    return encoder(1), encoder(2)


@pytest.fixture(scope="module")
def whole(pair) -> dict[str, np.ndarray]:
    return matched(pair, cut(texts(12), (ROWS,)))


def matched(pair, data) -> dict[str, np.ndarray]:
    return dict(pg.align(*pair, list(data)).permutations)


def same(found, expected) -> float:
    return sum((found[k] == expected[k]).sum() for k in expected) / sum(expected[k].size for k in expected)


@pytest.mark.parametrize("sizes", [(1,), (7, 1)], ids=str)
@pytest.mark.parametrize("padding", [(0, 0), (0, 20)], ids=["bare", "right"])
def test_the_element_does_not_depend_on_the_cut(pair, whole, sizes, padding) -> None:
    assert same(matched(pair, cut(texts(12), sizes, padding)), whole) == 1


def test_the_element_does_not_depend_on_the_order_of_lengths(pair) -> None:
    by_length = [list(cut(texts(length), (8,))) for length in LENGTHS]
    orders = [[batch for k in order for batch in by_length[k]] for order in ((0, 1, 2), (2, 0, 1))]
    assert same(*(matched(pair, data) for data in orders)) == 1


def test_padding_by_another_length_for_each_batch_changes_nothing(pair, whole) -> None:
    batches = [batch for k in range(0, ROWS, 4) for batch in cut(texts(12)[k : k + 4], (4,), (0, k % 3))]
    assert same(matched(pair, batches), whole) == 1


@pytest.mark.parametrize("first", [1, 2])
def test_a_first_batch_of_any_size_refuses_no_other(first) -> None:
    torch.manual_seed(0)
    a, b = (nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval() for _ in range(2))
    x = torch.randn(200, 5)
    expected = pg.align(a, b, [x]).permutations
    assert pg.align(a, b, [x[:first], x[first:]]).permutations == expected


CELLS = {
    "a class token": ((0, 1), {10: (0, 1), 4: (0, 1)}),
    "what follows it": ((1, 7), {10: (1, 9), 4: (1, 3), 1: None}),
    "the last": ((7, 1), {10: (9, 1), 4: (3, 1)}),
    "all but the last": ((0, 7), {10: (0, 9), 1: None}),
    "all": ((0, 8), {10: (0, 10), 1: (0, 1)}),
    "a prefix": ((0, 2), {10: (0, 2), 4: (0, 2)}),
}


@pytest.mark.parametrize(("cell", "expected"), CELLS.values(), ids=CELLS)
def test_another_length_has_the_same_positions(cell, expected) -> None:
    offset, size = cell
    leaves = (Leaf(0, 2, 1), Leaf(1, size, 1), Leaf(2, 5, 1))
    point = Point("h", (2, 8, 5), Cell((0, offset, 0), leaves, ()), ("units",), ((2,),))
    for length, place in expected.items():
        h = torch.arange(3.0 * length * 5).reshape(3, length, 5)
        if place is None:
            with pytest.raises(pg.CalibrationError, match="give batches of one shape"):
                point.resized(h.shape)
            continue
        start, count = place
        assert torch.equal(point.resized(h.shape).frames(h).flatten(0, -2), h[:, start : start + count].flatten(0, 1))
        mask = torch.ones(3, length, dtype=torch.bool)
        mask[1, length // 2 :] = False
        kept = point.resized(h.shape).kept(mask)
        assert kept is None if length == 1 else torch.equal(kept, mask[:, start : start + count].flatten())
