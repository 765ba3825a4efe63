"""Models that differ in one axis at their border are matched and merged by a stated rule, and each keeps its own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg

KINDS = ("permutation", "signed", "all")


class Image(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8)
        self.deep, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.head(self.deep(self.norm(self.stem(x)).relu()).relu().mean((2, 3)))
        return h


class Text(nn.Module):
    """As minGPT: rows of positions are a slice of a parameter, and a causal mask is a buffer."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.words, self.pos = nn.Embedding(20, 8), nn.Parameter(torch.randn(1, positions, 8))
        self.up, self.down, self.out = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 20)
        self.register_buffer("mask", torch.ones(positions, positions).tril()[None])

    def forward(self, ids: Tensor) -> Tensor:
        count = ids.shape[1]
        h = self.words(ids) + self.pos[:, :count]
        seen = self.mask[:, :count, :count]
        h = h + (seen / seen.sum(-1, keepdim=True)) @ h
        out: Tensor = self.out(h + self.down(self.up(h).relu()))
        return out


class Patches(nn.Module):
    """As a ViT of timm: a class token, and a table of positions that is added as a whole."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size = side
        self.stem, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.pos = nn.Parameter(torch.randn(1, (side // 4) ** 2 + 1, 8))
        self.up, self.down, self.out = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == self.img_size
        h = self.stem(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1) + self.pos
        out: Tensor = self.out((h + self.down(self.up(h).relu())).square()).mean(1)
        return out


class Looked(nn.Module):
    """As BERT: positions are looked up by numbers that the model counts itself."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.words, self.rows = nn.Embedding(20, 8), nn.Embedding(positions, 8)
        self.up, self.out = nn.Linear(8, 12), nn.Linear(12, 20)
        self.register_buffer("numbers", torch.arange(positions)[None], persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.out(self.up(self.words(ids) + self.rows(self.numbers[:, : ids.shape[1]])).relu())
        return out


def pixels(channels: int) -> Tensor:
    return torch.randn(3, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def images(side: int) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))


def ids(count: int) -> Tensor:
    return torch.randint(0, 20, (3, count), generator=torch.Generator().manual_seed(0))


PAIRS: dict[str, tuple[Callable[[int], nn.Module], int, int, Callable[[int], Tensor], int, str, str]] = {
    # class, sizes of A and B, inputs of a size, size of inputs to trace, tensor with the border, what is said
    "grey in colours": (Image, 3, 1, pixels, 3, "stem.weight", "a third of B's one"),
    "colours in grey": (Image, 1, 3, pixels, 1, "stem.weight", "the sum of B's three"),
    "more channels": (Image, 4, 9, pixels, 4, "stem.weight", "the last 5 of B left out"),
    "fewer channels": (Image, 9, 4, pixels, 9, "stem.weight", "the last 5 kept from A"),
    "more positions": (Text, 12, 20, ids, 8, "pos", "the last 8 of B left out"),
    "fewer positions": (Text, 20, 12, ids, 8, "pos", "the last 8 kept from A"),
    "more rows": (Looked, 12, 20, ids, 8, "rows.weight", "the last 8 of B left out"),
    "more places": (Patches, 16, 24, images, 16, "pos", "6 × 6 places in B is resized to 4 × 4, bicubic, 1 more"),
    "fewer places": (Patches, 24, 16, images, 24, "pos", "4 × 4 places in B is resized to 6 × 6, bicubic, 1 more"),
    "fewer rows": (Looked, 20, 12, ids, 8, "rows.weight", "the last 8 kept from A"),
}


def pair(name: str) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    kind, a, b, inputs, traced, _, _ = PAIRS[name]
    torch.manual_seed(0)
    return kind(a).eval(), kind(b).eval(), inputs(traced), inputs(b)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("name", PAIRS)
def test_a_border_that_differs_is_fitted_and_each_keeps_its_own(name: str, kinds: str) -> None:
    a, b, example, own = pair(name)
    *_, tensor, said = PAIRS[name]
    found = pg.align(a, b, args=(example,), kinds=kinds)
    assert found.certificate.ok
    assert said in str(found.borders)
    moved = copy.deepcopy(b)
    moved.load_state_dict(found.state_of_b)
    with torch.no_grad():
        assert torch.allclose(b(own), moved(own), atol=1e-5)  # on inputs that only B can read
    merged = pg.merge(a, b, alignment=found, weight=0.25)
    copy.deepcopy(a).load_state_dict(merged)
    dim = next(one.axes[tensor] for one in found.borders.borders if tensor in one.axes)
    mine, theirs = found.reference[tensor], found.state_dict[tensor]
    both = min(PAIRS[name][1:3]) if "last" in said else mine.shape[dim]
    shared = 0.25 * mine + 0.75 * theirs
    assert torch.allclose(merged[tensor].narrow(dim, 0, both), shared.narrow(dim, 0, both), atol=1e-6)
    rest = mine.shape[dim] - both
    assert torch.equal(merged[tensor].narrow(dim, both, rest), mine.narrow(dim, both, rest))


@pytest.mark.parametrize("name", ["fewer channels", "grey in colours", "fewer positions", "more rows", "more places"])
def test_a_planted_order_is_found_behind_a_border(name: str) -> None:
    a, b, example, _ = pair(name)
    state = dict(a.state_dict())
    fitted = pg.align(a, b, args=(example,)).borders
    for border in fitted.borders:  # B is A with another border, and then in another order
        for tensor, dim in border.axes.items():
            back = torch.eye(border.size_a)[torch.arange(border.size_b) % border.size_a]
            back = back if border.through is None else torch.linalg.pinv(border.through.float())
            state[tensor] = torch.tensordot(state[tensor], back, ([dim], [1])).movedim(-1, dim)
    b.load_state_dict(state)
    spec = pg.derive(b, (PAIRS[name][3](PAIRS[name][2]),))
    planted = spec.sample(1)
    b.load_state_dict(spec.apply(planted, state))
    found = pg.align(a, b, args=(example,))
    inverse = spec.invert(planted)
    assert all((found.permutations[group.name] == inverse[group.name]).all() for group in spec.groups)


def test_a_border_on_data_and_with_a_correction() -> None:
    a, b, example, _ = pair("fewer channels")
    data = [torch.randn(40, 9, 8, 8)]
    found = pg.align(a, b, iter(data), args=(example,))
    merged = pg.merge(a, b, alignment=found, method="linear+batch_norm", data=data)
    assert torch.equal(merged["stem.weight"][:, 4:], a.state_dict()["stem.weight"][:, 4:])


class Grid(nn.Module):
    def __init__(self, places: int) -> None:
        super().__init__()
        self.pos, self.up, self.out = nn.Parameter(torch.randn(places, 8)), nn.Linear(8, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.up(x.mean(1, keepdim=True) + self.pos).relu()).mean(1)
        return out


class Words(nn.Module):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.words, self.up, self.out = nn.Embedding(rows, 8), nn.Linear(8, 12), nn.Linear(12, 4)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.out(self.up(self.words(ids)).relu())
        return out


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        (Grid, torch.randn(2, 5, 8)),
        (Words, ids(6)),
        (lambda n: nn.Sequential(nn.Linear(8, n), nn.Linear(n, 2)), torch.randn(2, 8)),
    ],
    ids=["places of a grid", "tokens without a tokenizer", "hidden units"],
)
def test_what_is_no_border_is_refused_as_before(kind: Callable[[int], nn.Module], example: Tensor) -> None:
    with pytest.raises(pg.SpecMismatchError, match="not of one architecture"):
        pg.align(kind(22).eval(), kind(24).eval(), args=(example,))


def test_groups_that_would_move_a_border_are_refused() -> None:
    a, b, example, _ = pair("fewer channels")
    spec = pg.derive(a, (example,), outputs="free")
    found = pg.align(a, b, args=(example,))
    border = found.borders.borders[0]
    wrong = type(found.borders)((type(border)(border.what, "", {"head.weight": 0}, {}, border.a, border.b, 4, 4),))
    with pytest.raises(pg.PermgraphError, match="would move the input channels, which differ"):
        wrong.require_unmoved(spec)
