"""Families of very many units, as the experts of a large model: matched without a matrix of all of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

import permgraph as pg
from permgraph.jobs.plan import planned
from permgraph.matching.kinds import ascent
from permgraph.matching.kinds.wide import solve_wide
from permgraph.matching.weights import objective, relaxation
from permgraph.matching.weights.effort import IN_TURN, SIZES


class Ensemble(nn.Module):
    """Networks side by side: they move as experts do, and no router tells which is which."""

    def __init__(self, count: int = 12, inner: int = 16) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(count, inner, 10))
        self.bias = nn.Parameter(torch.randn(count, inner))
        self.down = nn.Parameter(torch.randn(count, 6, inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(torch.einsum("bd,end->ebn", x, self.up) + self.bias[:, None])
        return torch.tanh(torch.einsum("ebn,eon->ebo", hidden, self.down)).sum(0)


def experts() -> nn.Module:
    config = hf.Qwen3MoeConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        moe_intermediate_size=12, num_experts=8, num_experts_per_tok=2, use_cache=False, tie_word_embeddings=False,
    )  # fmt: skip
    return hf.Qwen3MoeForCausalLM(config)


MODELS = {
    "ensemble": (Ensemble, (torch.randn(3, 10),), {}),
    "mixture of experts": (experts, (), {"input_ids": torch.arange(8)[None]}),
}


@pytest.fixture
def forced_in_all_kinds(monkeypatch):
    """The same in all kinds; the families that were solved so."""
    found = []

    def solved(family, *args):
        found.append(family)
        return solve_wide(family, *args)

    monkeypatch.setattr(ascent, "solve_wide", solved)
    monkeypatch.setattr(ascent, "SIZES", replace(SIZES, wide_above=0))
    return found


@pytest.fixture
def forced(monkeypatch):
    """All nested families are matched as wide ones; the tables that were found so."""
    found = []

    def assigned(*args):
        found.append(relaxation_assigned(*args))
        return found[-1]

    relaxation_assigned = relaxation.assigned
    monkeypatch.setattr(relaxation, "assigned", assigned)
    monkeypatch.setattr(objective, "SIZES", replace(SIZES, wide_above=0))
    return found


def planted(name, noise=0.5):
    """A model, a copy with noise and an element planted, what moves it back, and how to call it."""
    build, args, kwargs = MODELS[name]
    torch.manual_seed(0)
    a, b = build().eval(), build().eval()
    spec = pg.derive(a, args, kwargs)
    element = spec.sample(1)
    weights = {key: t + noise * t.std() * torch.randn_like(t) for key, t in a.state_dict().items()}
    b.load_state_dict(spec.apply(element, weights))
    return a, b, spec.invert(element), {"args": args, "kwargs": kwargs, "spec": spec, "method": "weights"}


def test_a_copy_is_found_in_all_kinds(forced_in_all_kinds):
    build, args, kwargs = MODELS["mixture of experts"]
    torch.manual_seed(0)
    model = build().eval()
    folded = pg.fold(model, args, kwargs)
    model.load_state_dict(folded.state_dict)
    spec = pg.derive(model, args, kwargs, kinds="all")
    b = build().eval()
    b.load_state_dict(spec.apply(spec.sample(1), model.state_dict()))
    found = pg.align(model, b, args=args, kwargs=kwargs, spec=spec, method="weights")
    assert forced_in_all_kinds
    assert {group.kind for family in forced_in_all_kinds for group in family} == {"permutation", "monomial"}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found.state_dict[name], tensor, rtol=0, atol=1e-5 * float(tensor.abs().max()))


@pytest.mark.parametrize("options", [{}, {"effort": IN_TURN}], ids=["at once", "in turn"])
@pytest.mark.parametrize("name", MODELS)
def test_a_noisy_copy_is_found(forced, name, options):
    a, b, back, call = planted(name)
    found = pg.align(a, b, **call, **options)
    assert forced
    assert found.certificate.ok
    assert found.permutations == back


def test_outer_units_that_are_held_stay(forced):
    a, b, _, call = planted("ensemble", 0.0)
    root, inner = (group.name for group in call["spec"].groups)
    found = pg.align(a, b, **call, groups=[inner])
    assert forced
    assert np.array_equal(found.permutations[root], np.arange(12))
    whole = pg.align(a, b, **call)
    assert np.array_equal(whole.permutations[root], planted("ensemble", 0.0)[2][root])


def test_independent_models_gain_about_as_much_as_exactly(monkeypatch):
    build, args, kwargs = MODELS["ensemble"]
    a, b = build().eval(), build().eval()
    call = {"args": args, "kwargs": kwargs, "method": "weights"}
    exact = pg.align(a, b, **call).search.objective
    monkeypatch.setattr(objective, "SIZES", replace(SIZES, wide_above=0))
    estimated = pg.align(a, b, **call).search.objective
    assert 0.9 * exact < estimated <= exact


def test_the_plan_counts_the_units_in_one(monkeypatch):
    spec = planted("ensemble")[3]["spec"]
    states = [Ensemble().state_dict()] * 2
    assert planned(spec, states, 10**10).largest == 12 * 16
    monkeypatch.setattr("permgraph.jobs.plan.SIZES", replace(SIZES, wide_above=0))
    assert planned(spec, states, 10**10).largest == 16
