"""What a proof can see: wrong elements are caught, or the groups that nothing shows are named."""

import dataclasses

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

import permgraph as pg
from permgraph.symmetry.proof.agreement import TOLERANCE, Scales, gaps
from permgraph.symmetry.proof.power import PowerTest
from permgraph.symmetry.proof.trials import Trial
from permgraph.tracing.capture import capture
from permgraph.tracing.run import bind


class Attending(nn.Module):
    """Attention, a batch norm, and a hidden layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.norm, self.up, self.down = nn.BatchNorm1d(8), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        h = x + self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.down(self.up(self.norm(h.mT).mT).relu())


def deep_encoder(layers=16):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": layers}
    return BertModel(BertConfig(vocab_size=50, **sizes), add_pooling_layer=False).eval(), torch.randint(50, (2, 10))


def chain(layers, activation, width=6):
    torch.manual_seed(0)
    pairs = [layer for k in range(layers) for layer in (nn.Linear(width if k else 5, width), activation())]
    return nn.Sequential(*pairs, nn.Linear(width, 3)).eval(), torch.randn(20, 5)


def power_test(model, x, kinds="permutation"):
    spec, program = pg.derive(model, (x,), kinds=kinds), capture(model, (x,))
    trial = Trial(program, spec, model.state_dict(), bind(program, (x,), {}))
    scales = Scales()
    for seed in range(3):
        scales.draw(trial.outputs(seed))
    return PowerTest(trial, spec.moving(0, 3), 0, scales)


@pytest.mark.parametrize("model", [Attending().eval(), chain(3, nn.GELU)[0]], ids=["attention", "chain"])
def test_a_gradient_tells_what_a_wrong_element_does(model):
    test = power_test(model, torch.randn(3, 7, model.q.in_features if hasattr(model, "q") else 5))
    caught, before = test.power().caught, test.trial.outputs(0)
    assert len(test.wrong) == test.power().tried
    for wrong in test.wrong:
        after = test.trial.outputs(0, test._change(wrong))
        applied = max(test.scales.errors(gaps(before, after))) > TOLERANCE
        assert applied == (wrong in caught), wrong
    # A constant that is added to all keys does not change the softmax.
    assert {wrong.tensor for wrong in test.wrong if wrong not in caught} == {"k.bias"} & test.trial.state.keys()


def test_few_frames_tell_the_same_of_a_map_as_many(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 200), nn.Linear(200, 150), nn.Linear(150, 3)).eval()
    test = power_test(model, torch.randn(7, 5), "all")
    short = test._effects()
    monkeypatch.setattr("permgraph.symmetry.proof.power.shortened", lambda value, gradient, dim: (value, gradient))
    whole = test._effects()
    assert max(whole.values()) > 1
    assert short == pytest.approx(whole, abs=1e-11)


@pytest.mark.parametrize("made", [deep_encoder, lambda: chain(60, nn.ReLU)], ids=["encoder", "chain"])
def test_no_group_of_a_deep_model_is_out_of_sight(made):
    model, x = made()
    certificate = pg.verify(model, (x,))
    assert certificate
    assert certificate.untested == ()
    assert certificate.power > 0.9
    assert f"; {certificate.power:.0%} of wrong elements are caught" in str(certificate)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        pytest.param(lambda: deep_encoder(4), "encoder.layer.3.attention.self.query.weight", id="encoder"),
        pytest.param(
            deep_encoder, "encoder.layer.15.attention.self.query.weight", id="deep encoder", marks=pytest.mark.slow
        ),
        pytest.param(lambda: chain(60, nn.ReLU), "2.weight", id="chain"),
    ],
)
def test_a_wrong_group_of_a_deep_model_is_caught(made, name):
    model, x = made()
    spec = pg.derive(model, (x,))
    cells = tuple(dataclasses.replace(cell, moves=()) for cell in spec.layouts[name].cells)
    still = dataclasses.replace(spec.layouts[name], cells=cells)
    assert not pg.verify(model, (x,), spec=dataclasses.replace(spec, layouts={**spec.layouts, name: still}))


def test_a_group_that_nothing_shows_is_named():
    model, x = chain(2, nn.ReLU)
    dead = nn.Sequential(model, nn.Hardtanh(1e6, 1e6 + 1)).eval()
    certificate = pg.verify(dead, (x,), spec=pg.derive(dead, (x,)))
    assert certificate
    assert certificate.power == 0
    assert certificate.untested == ("0.0.hidden", "0.2.hidden")
    assert "0% of wrong elements are caught, and none of 0.0.hidden, 0.2.hidden)" in str(certificate)


def test_a_model_without_groups_has_no_power():
    model, x = nn.Sequential(nn.Linear(5, 3)).eval(), torch.randn(4, 5)
    certificate = pg.verify(model, (x,), spec=pg.derive(model, (x,)))
    assert certificate
    assert certificate.power is None
    assert "wrong" not in str(certificate)
