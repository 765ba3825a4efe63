"""Numbers of units, as `topk` and `argmax` return them, stand for the units wherever they are read as such."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.tracing.experts import NAME, all_experts

Forward = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Five features scored for eight units, which have rows of a table, a bias and a matrix each."""

    def __init__(self, how: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.score, self.head = how, nn.Linear(5, 8), nn.Linear(8, 3)
        self.table, self.bias, self.places = (nn.Parameter(torch.randn(*shape)) for shape in ((8, 4), (8,), (3,)))
        self.up, self.down = nn.Parameter(torch.randn(8, 6, 5)), nn.Parameter(torch.randn(8, 4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


def largest(net: Net, x: Tensor) -> Tensor:
    return net.table[net.score(x).argmax(-1)]


def largest_of_maximum(net: Net, x: Tensor) -> Tensor:
    value, number = net.score(x).max(-1)
    return nn.functional.embedding(number, net.table) * value[:, None]


def picked_and_weighed(net: Net, x: Tensor) -> Tensor:
    value, number = net.score(x).topk(3, -1)
    return (net.table[number.reshape(-1)].view(-1, 3, 4) * value.softmax(-1)[..., None]).sum(1)


def chosen_by_another_score(net: Net, x: Tensor) -> Tensor:
    scores = net.score(x).sigmoid()
    number = (scores + net.bias).topk(3, -1).indices
    return torch.zeros_like(scores).scatter(1, number, scores.gather(1, number)) @ net.table


def selected(net: Net, x: Tensor) -> Tensor:
    return net.table.index_select(0, net.score(x).argmax(-1))


def masked_in_place(net: Net, x: Tensor) -> Tensor:
    scores = net.score(x)
    mask = torch.zeros_like(scores)
    mask.scatter_(1, scores.topk(3, -1).indices, 1.0)
    return (scores * mask) @ net.table


def experts_by_number(net: Net, x: Tensor) -> Tensor:
    number = net.score(x).topk(1, -1).indices[:, 0]
    inner = torch.bmm(net.up[number], x.unsqueeze(-1)).relu()
    return torch.bmm(net.down[number], inner).squeeze(-1)


def of_groups(net: Net, x: Tensor) -> Tensor:
    scores = net.score(x)
    group = scores.view(-1, 2, 4).max(-1).values.topk(1, -1).indices
    mask = torch.zeros(len(x), 2).scatter(1, group, 1.0)
    return (scores * mask[..., None].expand(-1, 2, 4).reshape(-1, 8)) @ net.table


def summed_without_order(net: Net, x: Tensor) -> Tensor:
    return net.score(x).relu().topk(3, -1, sorted=False).values.sum(-1, keepdim=True).exp()


def picked_without_order(net: Net, x: Tensor) -> Tensor:
    value, number = net.score(x).topk(3, -1, sorted=False)
    return (net.table[number] * value[..., None]).sum(1)


def joined(net: Net, x: Tensor) -> Tensor:
    scores = net.score(x)
    first = scores.argmax(-1, keepdim=True)
    second = scores.scatter(-1, first, -torch.inf).argmax(-1, keepdim=True)
    return net.table[torch.cat([first, second], -1)].sum(1)


def stacked(net: Net, x: Tensor) -> Tensor:
    return net.table[torch.stack([net.score(x).argmax(-1), net.score(-x).argmax(-1)])].sum(0)


def split(net: Net, x: Tensor) -> Tensor:
    first, second = net.score(x).topk(2, -1).indices.chunk(2, -1)
    return net.table[first] - net.table[second]


def unbound(net: Net, x: Tensor) -> Tensor:
    first, second = net.score(x).topk(2, -1).indices.unbind(-1)
    return net.table[first] - net.table[second]


MOVED: list[tuple[Forward, list[int]]] = [
    (largest, [8, 4]),
    (largest_of_maximum, [8, 4]),
    (picked_and_weighed, [8, 4]),
    (chosen_by_another_score, [8, 4]),
    (selected, [8, 4]),
    (masked_in_place, [8, 4]),
    (experts_by_number, [8, 6, 4]),
    (of_groups, [2, 4, 4]),
    (summed_without_order, [8]),
    (picked_without_order, [8, 4]),
    (joined, [8, 4]),
    (stacked, [8, 4]),
    (split, [8, 4]),
    (unbound, [8, 4]),
]


def number_as_value(net: Net, x: Tensor) -> Tensor:
    value, number = net.score(x).topk(3, -1)
    return value * number


def number_as_output(net: Net, x: Tensor) -> Tensor:
    return net.score(x).topk(3, -1).indices


def number_changed(net: Net, x: Tensor) -> Tensor:
    return net.table[(net.score(x).argmax(-1) + 1) % 8]


def number_written_over(net: Net, x: Tensor) -> Tensor:
    number = net.score(x).topk(3, -1).indices
    flat = number.view(-1)
    flat[0] = 2
    return net.table[number].sum(1)


def number_in_given_memory(net: Net, x: Tensor) -> Tensor:
    value, number = torch.zeros(len(x), 3), torch.zeros(len(x), 3, dtype=torch.long)
    torch.topk(net.score(x), 3, out=(value, number))
    return net.table[number].sum(1)


def row_of_another_size(net: Net, x: Tensor) -> Tensor:
    return torch.cat([net.table, net.table])[net.score(x).argmax(-1)]


def joined_with_places(net: Net, x: Tensor) -> Tensor:
    return net.table[torch.cat([net.score(x).argmax(-1), torch.arange(8)])].sum(0)


def order_without_order(net: Net, x: Tensor) -> Tensor:
    return net.head(net.score(x).relu().topk(8, -1, sorted=False).values)


def first_without_order(net: Net, x: Tensor) -> Tensor:
    return net.score(x).topk(3, -1, sorted=False).values[:, :1]


def weighed_by_place_without_order(net: Net, x: Tensor) -> Tensor:
    return (net.table[net.score(x).topk(3, -1, sorted=False).indices] * net.places[:, None]).sum(1)


def rows_added_without_order(net: Net, x: Tensor) -> Tensor:
    return net.score(x).topk(3, -1, sorted=False).values.sum(0).exp().sum(-1, keepdim=True)


HELD: list[Forward] = [
    number_as_value,
    number_as_output,
    number_changed,
    number_written_over,
    number_in_given_memory,
    row_of_another_size,
    joined_with_places,
    order_without_order,
    first_without_order,
    weighed_by_place_without_order,
    rows_added_without_order,
]


def sizes(spec: pg.PermutationSpec) -> list[int]:
    """Of the groups, and how many the score has."""
    return [group.size for group in spec.groups]


@pytest.mark.parametrize(("how", "expected"), MOVED)
def test_units_move_with_their_numbers(how, expected):
    net, x = Net(how).eval(), torch.randn(6, 5)
    spec = pg.derive(net, x, outputs="free")
    assert sorted(sizes(spec)) == sorted(expected)
    assert pg.verify(net, x, spec=spec).ok


@pytest.mark.parametrize("how", HELD)
def test_units_stay_where_their_numbers_are_read_otherwise(how):
    net, x = Net(how).eval(), torch.randn(6, 5)
    spec = pg.derive(net, x)
    assert ("score.weight", 0) in spec.pinned
    assert pg.verify(net, x, spec=spec).ok


def test_the_form_of_the_experts_is_the_users_own_after_a_trace():
    hf = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = hf.MixtralConfig(
        **small,
        intermediate_size=8,
        vocab_size=20,
        num_local_experts=3,
        experts_implementation="eager",
        use_cache=False,
    )
    model = hf.MixtralForCausalLM(config).double().eval()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        wanted = model(ids).logits
        with all_experts(model):
            assert model.config._experts_implementation == NAME
            found = model(ids).logits
        with pytest.raises(ZeroDivisionError), all_experts(model):
            raise ZeroDivisionError
    assert model.config._experts_implementation == "eager"
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.equal(model(ids).logits, wanted)
