"""What two modules may differ in for one trace to serve both."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import permgraph as pg
from permgraph.tracing.but_for_weights import equal_but_for_weights


class Net(nn.Module):
    """Has whatever its forward pass could read."""

    def __init__(self, **attributes) -> None:
        super().__init__()
        self.lin, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.register_buffer("table", torch.arange(3.0), persistent=False)
        self.held = [torch.ones(2)]
        self.act = partial(torch.relu)
        for name, value in attributes.items():
            setattr(self, name, value)


def tied(net: Net) -> Net:
    net.other = nn.Linear(3, 3)
    net.other.weight = net.lin.weight
    return net


def with_statistics(net: Net) -> Net:
    net.norm.running_mean.fill_(2.0)
    return net


def untied(net: Net) -> Net:
    net.other = nn.Linear(3, 3)
    return net


SAME = {
    "other weights": (Net(), Net()),
    "other statistics": (Net(), with_statistics(Net())),
    "the same tie": (tied(Net()), tied(Net())),
}
OTHER = {
    "a number": (Net(size=1), Net(size=2)),
    "a number in a part": (Net(), Net(norm=nn.BatchNorm1d(3, eps=1e-3))),
    "a function": (Net(), Net(act=partial(torch.tanh))),
    "a tensor outside the state dict": (Net(), Net(table=torch.ones(3))),
    "a tensor in a list": (Net(), Net(held=[torch.zeros(2)])),
    "a dtype": (Net(), Net().double()),
    "a shape": (Net(), Net(lin=nn.Linear(2, 3))),
    "a device": (Net(), Net().to("meta")),
    "a class": (Net(), nn.Sequential(nn.Linear(3, 3))),
    "a tie": (tied(Net()), untied(Net())),
    "a part that cannot be pickled": (Net(act=lambda x: x), Net(act=lambda x: x)),
    "a parametrisation": (parametrizations.weight_norm(nn.Linear(3, 3)), parametrizations.weight_norm(nn.Linear(3, 3))),
}


@pytest.mark.parametrize("case", SAME)
def test_weights_alone_may_differ(case: str) -> None:
    assert equal_but_for_weights(*SAME[case])


@pytest.mark.parametrize("case", OTHER)
def test_anything_else_is_a_difference_or_cannot_be_told(case: str) -> None:
    assert not equal_but_for_weights(*OTHER[case])


class Scaled(nn.Module):
    """Computes with a number that it keeps beside its weights."""

    def __init__(self, by: float = 1.0) -> None:
        super().__init__()
        self.first, self.last, self.by = nn.Linear(4, 5), nn.Linear(5, 2), by

    def forward(self, x):
        """`x` through both layers."""
        return self.last(self.first(x).relu() * self.by)


def normed(momentum: float) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=momentum), nn.Linear(5, 2))


def dropped(kind: type[nn.Module], p: float) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), kind(p), nn.Linear(5, 2))


class Recurrent(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(4, 5, 2, dropout=dropout, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        """The last layer at each step."""
        return self.last(self.lstm(x)[0])


OF_TRAINING: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...]]] = {
    "dropout": (dropped(nn.Dropout, 0.1), dropped(nn.Dropout, 0.0), (3, 4)),
    "dropout of features": (dropped(nn.Dropout1d, 0.1), dropped(nn.Dropout1d, 0.3), (2, 3, 4)),
    "alpha dropout": (dropped(nn.AlphaDropout, 0.1), dropped(nn.AlphaDropout, 0.3), (3, 4)),
    "dropout between recurrent layers": (Recurrent(0.1), Recurrent(0.3), (2, 3, 4)),
    "momentum of batch norm": (normed(0.1), normed(0.01), (3, 4)),
}


@pytest.mark.parametrize("case", OF_TRAINING)
def test_what_only_training_reads_may_differ(case: str) -> None:
    a, b, shape = OF_TRAINING[case]
    assert pg.align(a.eval(), b.eval(), args=(torch.randn(shape),)).certificate.ok


def test_models_that_differ_in_a_number_are_compared_by_their_traces() -> None:
    with pytest.raises(pg.SpecMismatchError, match="compute differently"):
        pg.align(Scaled(1.5).eval(), Scaled(2.0).eval(), args=(torch.ones(2, 4),))
