"""Tensors whose size depends on data: selected by a mask, their other axes keep their groups."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.symmetry.proof.agreement import Scales, gaps

X = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
PLACES = X[..., 0] > 0


class Net(nn.Module):
    """Layers of 8 and 6 units, used as `body` says."""

    def __init__(self, body: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = body
        self.a, self.b, self.c, self.d = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(8, 6), nn.Linear(6, 3)
        self.norm = nn.LayerNorm(8)
        self.register_buffer("mask", PLACES.clone())

    def forward(self, x: Tensor) -> Tensor:
        """What `body` makes of `x`."""
        return self.body(self, x)


def places(x: Tensor) -> Tensor:
    return x[..., 0] > 0


def by_numbers(net: nn.Module, x: Tensor) -> Tensor:
    rows, columns = torch.where(places(x))
    return net.d(torch.zeros(6, 6, dtype=x.dtype).index_add(0, columns, net.c(net.a(x)[rows, columns]).relu()))


def written_back(net: nn.Module, x: Tensor) -> Tensor:
    return net.b(torch.zeros(2, 6, 8, dtype=x.dtype).index_put((places(x),), net.a(x)[places(x)]))


def viewed(net: nn.Module, x: Tensor) -> Tensor:
    chosen = net.a(x)[places(x)]
    return net.b(chosen.view(-1, chosen.shape[0], 8).relu()).sum((0, 1))


def filled_up(net: nn.Module, x: Tensor) -> Tensor:
    chosen = net.a(x).flatten(0, 1)[places(x).flatten()]
    missing = x.new_zeros(12 - chosen.shape[0], 8)
    return net.b(torch.cat([chosen, missing]).relu()).sum(0)


BODIES: dict[str, tuple[Callable[..., Tensor], list[int]]] = {
    "a constant mask": (lambda s, x: s.b(s.a(x).relu()[s.mask]).sum(0), [8]),
    "a computed mask": (lambda s, x: s.b(s.a(x).relu()[places(x)]).sum(0), [8]),
    "rows as an output": (lambda s, x: s.b(s.a(x).relu()[places(x)]), [8]),
    "rows by their units, as an output": (lambda s, x: s.b(s.a(x)[s.a(x).sum(-1) > 0].relu()), [8]),
    "a mask of one axis": (lambda s, x: s.b(s.a(x).relu()[:, places(x)[0]]).sum((0, 1)), [8]),
    "layers behind it": (lambda s, x: s.d(s.c(s.norm(s.a(x)).relu()[places(x)]).relu()).sum(0), [8, 6]),
    "numbers of the places": (by_numbers, [8, 6]),
    "a view with its size": (viewed, [8]),
    "a mask over the units": (lambda s, x: s.b(s.a(x)) + s.a(x)[s.a(x) > 0].sum(), []),
    "a mask along the units": (lambda s, x: s.a(x)[..., torch.tensor([True, False] * 4)], []),
    "as many rows as before": (filled_up, []),
    "written back": (written_back, []),
    "a count of units": (lambda s, x: s.b(s.a(x).relu()) * (s.a(x)[0] > 0).nonzero().shape[0], []),
    "as many units as are positive": (lambda s, x: s.a(x)[..., : (s.a(x)[0, 0] > 0).sum().item()].sum(-1), []),
}


@pytest.mark.parametrize("kinds", ["permutation", "all"])
@pytest.mark.parametrize("name", BODIES)
def test_axes_that_no_mask_selects_from_are_free(name: str, kinds: str) -> None:
    body, sizes = BODIES[name]
    net = Net(body).eval()
    spec = pg.derive(net, X, kinds=kinds)
    assert [group.size for group in spec.groups] == sizes
    assert pg.verify(net, X, spec=spec)


class Grid(nn.Module):
    """Reads the sides of a grid from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, sides: Tensor) -> Tensor:
        """The sum over a grid with these sides."""
        return self.b(self.a(x).relu().reshape(sides[0].item(), sides[1].item(), 8)).sum((0, 1))


def test_sizes_that_fit_for_some_data_alone_pin() -> None:
    inputs = X[0], torch.tensor([2, 3])
    spec = pg.derive(Grid().eval(), inputs)
    assert spec.groups == ()
    assert "sizes that depend on data" in str(spec.pinned["a.weight", 0])
    assert pg.verify(Grid().eval(), inputs, spec=spec)


def halved(x: Tensor, place: Tensor) -> Tensor:
    """Half of x where `place` is true at some place: a branch that no trace of shapes alone can take."""
    return x / 2 if place.any() else x


DECIDED: dict[str, tuple[Callable[..., Tensor], bool]] = {
    "by an input, rows by numbers": (lambda s, x: halved(s.b(s.a(x).relu()[:, torch.tensor([0, 2])]), x > 0), True),
    "by an input, rows by a mask": (lambda s, x: halved(s.b(s.a(x).relu()[places(x)]).sum(0), x > 0), True),
    "by the number of rows": (lambda s, x: halved(s.b(s.a(x).relu()), s.a(x)[places(x)].numel() > x[:, :1] + 9), True),
    "by a weight": (lambda s, x: halved(s.b(s.a(x).relu()), s.a.bias > 0), False),
    "by rows that a weight picks": (lambda s, x: halved(s.b(s.a(x)[s.a(x)[..., 0] > 0]).sum(0), x > 0), False),
}


@pytest.mark.parametrize("name", DECIDED)
def test_a_branch_is_traced_if_no_weight_decides_it(name: str) -> None:
    body, is_traced = DECIDED[name]
    net = Net(body).eval()
    if is_traced:
        assert [group.size for group in pg.derive(net, X).groups] == [8]
        assert pg.verify(net, X)
    else:
        with pytest.raises(pg.CaptureError, match="depends on the values of tensors; only what the inputs alone"):
            pg.derive(net, X)


class Padded(nn.Module):
    """Computes how much to pad from whole numbers in buffers, as EnCodec does, and reads the result step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.read = nn.Conv1d(5, 8, 3, stride=2), nn.LSTM(8, 4, batch_first=True)
        for name, number in (("kernel", 3), ("stride", 2)):
            self.register_buffer(name, torch.tensor(number), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The last state."""
        frames = torch.ceil((x.shape[1] - self.kernel) / self.stride + 1).long()
        more = (frames - 1) * self.stride + self.kernel - x.shape[1]
        padded = nn.functional.pad(x.mT, (int(self.kernel) - 1, int(more)), "reflect", 0.0)
        return self.read(self.conv(padded).relu().mT)[0][:, -1]


def test_numbers_in_buffers_are_constants() -> None:
    spec = pg.derive(Padded().eval(), X)
    assert [group.size for group in spec.groups] == [8]
    assert pg.verify(Padded().eval(), X)


def test_models_are_matched_where_no_size_depends_on_data() -> None:
    net = Net(BODIES["layers behind it"][0]).eval()
    spec = pg.derive(net, X)
    other = Net(net.body).eval()
    element = spec.sample(1)
    other.load_state_dict(spec.apply(element, net.state_dict()))
    aligned = pg.align(net, other, [torch.randn(2, 6, 5) for _ in range(20)])
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in aligned.state_dict.items())


def test_outputs_of_other_sizes_are_an_infinite_error_and_share_one_scale() -> None:
    scales = Scales()
    scales.draw([torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])])
    scales.draw([torch.tensor([[1.0, 3.0]])])
    gap = gaps([torch.zeros(2, 2)], [torch.tensor([[0.0, 0.0], [2.0, 1.0]])])
    assert scales.errors(gap) == [0.5]  # the first column varies by 4 over all rows and draws, the second by 2
    assert scales.errors(gaps([torch.zeros(2, 2)], [torch.zeros(3, 2)])) == [float("inf")]
