"""Unusual arguments, writes into memory, random draws: what a rule does not understand pins what it touches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from judge import error
from torch import Tensor, nn
from zoo_rows import Case

from permgraph import derive
from permgraph.errors import RuleError
from permgraph.rules.registry import RULES, Call, rule

N = 8


@torch.library.custom_op("unusual::scale_", mutates_args={"x"})
def scale_(x: Tensor, w: Tensor) -> None:
    """x *= w, returning nothing."""
    x.mul_(w)


@torch.library.custom_op("unusual::reverse_", mutates_args={"x"})
def reverse_(x: Tensor) -> None:
    """x in reverse order, returning nothing."""
    x.copy_(x.flip(-1))


class Net(nn.Module):
    """A linear layer, a function of its units, and what becomes of them; `w` has a number for each unit."""

    def __init__(self, body: Callable[[Net, Tensor], Tensor], kept: int = N) -> None:
        super().__init__()
        self.body = body
        self.a, self.b, self.w = nn.Linear(5, N), nn.Linear(kept, 3), nn.Parameter(torch.randn(N))
        self.register_buffer("positions", torch.tensor([0, 1, 2, 3]), persistent=False)
        self.register_buffer("ones", torch.ones(N), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, self.a(x))


def foreach(s: Net, h: Tensor) -> Tensor:
    torch._foreach_add_([h], [s.w.expand_as(h)])
    return s.b(h.relu())


def foreach_zeros(s: Net, h: Tensor) -> Tensor:
    z = torch.zeros_like(h)
    torch._foreach_add_([z], [s.w.cumsum(0).expand_as(h)])
    return s.b(h * z)


def custom(s: Net, h: Tensor) -> Tensor:
    torch.ops.unusual.scale_(h, s.w)
    return s.b(h.relu())


def custom_reversed(s: Net, h: Tensor) -> Tensor:
    torch.ops.unusual.reverse_(h)
    return s.b(h * s.w)


def custom_view(s: Net, h: Tensor) -> Tensor:
    z = torch.zeros_like(h)
    torch.ops.unusual.scale_(z.view(-1)[:N], s.w)
    return s.b(h + z)


def out_into_view(s: Net, h: Tensor) -> Tensor:
    z = torch.zeros_like(h)
    torch.exp(h, out=z[:])
    return s.b(z)


def out_into_rows(s: Net, h: Tensor) -> Tensor:
    z = torch.zeros_like(h)
    torch.mul(h[0], s.w, out=z[1])
    return s.b(z)


def out_into_half(s: Net, h: Tensor) -> Tensor:
    torch.mul(h[:, :4], s.w[:4], out=h[:, :4])
    return s.b(h.relu())


def out_of_sum(s: Net, h: Tensor) -> Tensor:
    z = h.new_zeros(len(h))
    torch.sum(h * s.w, -1, out=z)
    return s.b(h * z[:, None])


def edited_index(s: Net, h: Tensor) -> Tensor:
    i = torch.tensor([0, 1, 2, 3])
    i[2:] += 2
    return s.b(h[:, i])


def edited_buffer(s: Net, h: Tensor) -> Tensor:
    i = s.positions.clone()
    i[2:] += 2
    return s.b(h[:, i])


def edited_constant(s: Net, h: Tensor) -> Tensor:
    z = s.ones.clone()
    z[:4] = h[0, :4]
    return s.b(h * z)


def edited_parameter(s: Net, h: Tensor) -> Tensor:
    s.w[:4] = 0.5
    return s.b(h * s.w)


def hidden_alias(s: Net, h: Tensor) -> Tensor:
    torch.atleast_2d(F.dropout(h, 0.5, False))[:, 0] = 3.0
    return s.b(h)


def transposed_in_place(s: Net, h: Tensor) -> Tensor:
    h.t_()
    return s.b(h.t().relu())


def statistics(s: Net, h: Tensor) -> Tensor:
    y, mean, deviation = torch.native_batch_norm(h, s.w, None, None, None, True, 0.1, 1e-5)
    return s.b(y) + (mean * s.w).sum() + (deviation * s.a.bias).sum()


def running_statistics(s: Net, h: Tensor) -> Tensor:
    mean, variance = torch.zeros_like(s.w), torch.ones_like(s.w)
    y = F.batch_norm(h, mean, variance, training=True)
    return s.b(y * mean)


CASES: dict[str, tuple[Callable[[Net, Tensor], Tensor], str]] = {
    "topk without an order": (
        lambda s, h: s.b(F.pad(torch.topk(h.relu(), 4, sorted=False).values, (0, 4))),
        "no order that is promised",
    ),
    "all dimensions reversed": (lambda s, h: s.b((h[None] * s.w).T.sum(-1).T), ""),
    "a strided kernel of one": (
        lambda s, h: s.b(F.pad(F.conv1d(h[:, None, :3], s.w[:1, None, None], stride=2, padding=1)[:, 0], (0, 5))),
        "positions are convolved",
    ),
    "a mask drawn by dropout": (lambda s, h: s.b(h * F.dropout(torch.ones(N).to(h), 0.5, True)), "draws random"),
    "dropout that is on": (lambda s, h: s.b(F.dropout(h, 0.5, True)), "draws random"),
    "alpha dropout that is on": (lambda s, h: s.b(F.alpha_dropout(h, 0.5, True)), "draws random"),
    "noise": (lambda s, h: s.b(h + torch.rand_like(h)), "no rule for aten.rand_like"),
    "strides": (lambda s, h: s.b(h.as_strided((4, N), (N, 1))), "no rule for aten.as_strided"),
    "bits": (lambda s, h: s.b(h.view(torch.int64).to(h.dtype).tanh()), "the bits of numbers"),
    "bits of another size": (lambda s, h: s.b(h.view(torch.int8).to(h.dtype)[:, ::8]), "the bits of numbers"),
    "a list in place": (foreach, "writes to its arguments"),
    "a list of zeros in place": (foreach_zeros, "writes to its arguments"),
    "an operation that returns nothing": (custom, "writes to its arguments"),
    "an operation that reverses in place": (custom_reversed, "writes to its arguments"),
    "an operation that writes through a view": (custom_view, "writes to its arguments"),
    "out into a view": (out_into_view, ""),
    "out into a row": (out_into_rows, ""),
    "out into a half": (out_into_half, ""),
    "out of a sum": (out_of_sum, ""),
    "an index that is edited": (edited_index, "looked up by computed indices"),
    "a buffer of indices that is edited": (edited_buffer, "looked up by computed indices"),
    "a constant that is edited": (edited_constant, ""),
    "a parameter that is edited": (edited_parameter, ""),
    "an alias that no schema declares": (hidden_alias, ""),
    "a transposition in place": (transposed_in_place, "changes the shape of its argument"),
    "the statistics of a norm": (statistics, ""),
    "statistics that a norm writes": (running_statistics, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_sound_and_says_what_pins(name: str) -> None:
    body, reason = CASES[name]
    torch.manual_seed(0)
    case = Case(Net(body, 4 if "index" in name or "indices" in name else N).eval(), (torch.randn(4, 5),))
    with torch.no_grad():
        spec = derive(case.model.double(), tuple(x.double() for x in case.args))
    assert max(error(case, spec, seed) for seed in range(4)) < 1e-9
    assert reason in "".join(why for _, why in spec.ties.pins)


def free(body: Callable[[Net, Tensor], Tensor]) -> list[int]:
    return [group.size for group in derive(Net(body).eval(), (torch.randn(4, 5),)).groups]


def test_what_is_understood_stays_free() -> None:
    """Writes that return what they wrote, and arguments that tell no positions apart."""
    assert free(out_into_view) == free(out_of_sum) == free(statistics) == free(running_statistics) == [N]
    assert free(out_into_half) == [4, 4]
    assert free(lambda s, h: s.b(h.add_(s.w, alpha=2).clamp_(min=0.1))) == [N]
    assert free(lambda s, h: s.b(F.layer_norm(h, (N,), s.w, eps=0.1))) == [N]
    assert free(lambda s, h: s.b(h * torch.div(h.size(0), 2, rounding_mode="trunc"))) == [N]  # of numbers alone


def test_an_argument_that_a_rule_does_not_know_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(call: Call) -> None:
        call.relate("... -> ...", call["self"], call.out)

    monkeypatch.setitem(RULES, "aten.hardtanh", unread)
    monkeypatch.setitem(RULES, "aten.celu", unread)
    assert free(lambda s, h: s.b(F.celu(h))) == [N]
    spec = derive(Net(lambda s, h: s.b(F.celu(h, 2.0))).eval(), (torch.randn(4, 5),))
    assert not spec.groups
    assert any("the rule for aten.celu does not know the argument alpha=2.0" in why for _, why in spec.ties.pins)


@pytest.mark.parametrize(
    ("pattern", "reason"), [("x -> y", "nothing of the tensor other"), ("x, y", "nothing of result 0")]
)
def test_a_tensor_that_a_rule_leaves_out_pins(monkeypatch: pytest.MonkeyPatch, pattern: str, reason: str) -> None:
    def partial(call: Call) -> None:
        values = (call["self"], call.out) if "->" in pattern else (call["self"], call["other"])
        call.relate(pattern.replace("x", "...").replace("y", "..."), *values)

    monkeypatch.setitem(RULES, "aten.maximum", partial)
    spec = derive(Net(lambda s, h: s.b(torch.maximum(h, s.w.expand_as(h)))).eval(), (torch.randn(4, 5),))
    assert not spec.groups
    assert any(reason in why for _, why in spec.ties.pins)


@pytest.mark.parametrize("op", ["aten.softmin", "aten.liner", "linear"])
def test_a_rule_for_no_operation_is_refused(op: str) -> None:
    with pytest.raises(ValueError, match=f"torch has no operation {op}"):
        rule(op)(lambda call: None)
    assert op not in RULES


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(ValueError, match=r"near: .*aten\.linear"):
        rule("aten.liner")(lambda call: None)


def test_a_rule_that_fails_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(call: Call) -> None:
        raise KeyError("weight")

    monkeypatch.setitem(RULES, "aten.linear", broken)
    with pytest.raises(RuleError, match=r"broken for aten.linear in a .* KeyError: 'weight' at .*\.py:\d+"):
        free(lambda s, h: s.b(h))
