"""A broken rule is noticed: the derivation with it moves the outputs of a model."""

import pytest
import torch
import zoo_attention_nets as attention_nets
import zoo_nets as nets
from judge import error
from stated_rules import loose, says
from torch import nn
from zoo_rows import Case

from permgraph import derive
from permgraph.rules import RULES
from permgraph.rules.registry import EVERY_SCALAR, IGNORED


def vectors(*layers):
    return Case(nn.Sequential(*layers).eval(), (torch.randn(4, 5),))


def images(*layers):
    return Case(nn.Sequential(*layers, *nets.pooled(8, 2)).eval(), (torch.randn(2, 3, 6, 6),))


def sequences(*layers):
    return Case(nn.Sequential(nn.Linear(3, 24), *layers, nn.Linear(24, 2)).eval(), (torch.randn(2, 5, 3),))


def separate_gates(call):
    x, out = call["self"], call.out
    call.relate("... d[0:8], ... d -> ... e", call.part((*x.shape[:-1], 8)), x, out)


MUTANTS = {
    "linear without a tie to its input": (
        "aten.linear",
        says("... i, o j, o -> ... o", "input", "weight", "bias"),
        lambda: vectors(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)),
    ),
    "linear without a tie to its bias": (
        "aten.linear",
        says("... i, o i, p -> ... o", "input", "weight", "bias"),
        lambda: vectors(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)),
    ),
    "convolution that lets its kernel move": (
        "aten.conv2d",
        says("b i h w, o i k l, o -> b o u v", "input", "weight", "bias"),
        lambda: images(nn.Conv2d(3, 8, 3)),
    ),
    "grouped convolution taken for a full one": (
        "aten.conv2d",
        says("b (g i) h w, (g o) j k l, (p q) -> b (p q) u v", "input", "weight", "bias",
             pin=dict.fromkeys("hwkluv", "space"), sizes={"g": 2, "i": 4, "o": 4, "p": 2, "q": 4}),
        lambda: images(nn.Conv2d(3, 8, 1, groups=1), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2)),
    ),
    "BatchNorm that leaves its buffers behind": (
        "aten.batch_norm",
        says("b c h w, c, c, m, v -> b c h w", "input", "weight", "bias", "running_mean", "running_var"),
        lambda: images(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
    ),
    "LayerNorm that leaves its scale behind": (
        "aten.layer_norm",
        says("... n, m, n -> ... n", "input", "weight", "bias"),
        lambda: vectors(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)),
    ),
    "GroupNorm without groups": (
        "aten.group_norm",
        says("b c h w, c, c -> b c h w", "input", "weight", "bias"),
        lambda: images(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU()),
    ),
    "attention whose scores have no heads": (
        "aten.scaled_dot_product_attention",
        says("b h l e, b h s e, b g s v -> b g l v", "query", "key", "value"),
        lambda: sequences(attention_nets.Attention()),
    ),
    "attention whose queries and keys move apart": (
        "aten.scaled_dot_product_attention",
        says("b h l e, b h s f, b h s v -> b h l v | b h l s", "query", "key", "value"),
        lambda: sequences(attention_nets.Attention()),
    ),
    "softmax that mixes up the heads": (
        "aten.softmax",
        says("b h l s -> b g l s", "self"),
        lambda: sequences(attention_nets.Attention(bias="table")),
    ),
    "matmul without a sum": (
        "aten.matmul",
        lambda call: call.relate("... m k, ... l n -> ... m n", *call.tensors(), call.out),
        lambda: sequences(attention_nets.Attention(bias="table")),
    ),
    "cumsum taken for pointwise": (
        "aten.cumsum",
        says("... -> ...", "self"),
        lambda: vectors(nn.Linear(5, 8), nets.Apply(lambda x: x.cumsum(1)), nn.Linear(8, 3)),
    ),
    "view without a law": (
        "aten.view",
        loose,
        lambda: sequences(attention_nets.Attention(layout="3Hk")),
    ),
    "concatenation without a law": (
        "aten.cat",
        loose,
        lambda: vectors(nn.Linear(5, 8), nets.Concat(nn.Linear(8, 4)), nn.Linear(12, 3)),
    ),
    "transpose that changes nothing": (
        "aten.transpose",
        loose,
        lambda: sequences(attention_nets.Attention()),
    ),
    "slices that share one identity": (
        "aten.glu",
        separate_gates,
        lambda: vectors(nn.Linear(5, 16), nn.GLU(), nn.Linear(8, 3)),
    ),
    "LSTM whose units move alone": (
        "aten.lstm",
        loose,
        lambda: Case(nets.Recurrent(nn.LSTM).eval(), (torch.randn(2, 5, 3),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(monkeypatch, name):
    op, mutant, build = MUTANTS[name]
    torch.manual_seed(0)
    case = build()
    assert error(case, derive(case.model, case.args, outputs="free"), 0) < 1e-9
    monkeypatch.setitem(RULES, op, mutant)
    monkeypatch.setitem(IGNORED, op, frozenset({EVERY_SCALAR}))
    errors = [error(case, derive(case.model, case.args, outputs="free"), seed) for seed in range(3)]
    assert max(errors) > 1e-6
