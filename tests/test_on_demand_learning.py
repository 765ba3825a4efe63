"""Learning while the weights stay in their files: the same losses, and no weight kept between the passes."""

import json

import pytest
import torch
from commands import run
from folders import bert, sentences
from test_storage import stored
from torch import nn

from permgraph.learning.recomputed import Recomputed

LEARNED = ("--kinds", "all", "--method", "learned")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folders a and b of two small BERTs, and texts."""
    root = tmp_path_factory.mktemp("on_demand_learning")
    for seed, side in enumerate("ab"):
        bert(root / side, seed=seed)
    sentences(root / "texts")
    return root


def test_the_output_is_that_of_whole_models(pair, tmp_path):
    words = (
        "merge",
        pair / "a",
        pair / "b",
        "--data",
        pair / "texts",
        "--kinds",
        "all",
        "--method",
        "learned",
        "--steps",
        4,
    )
    said = run(*words, "--out", tmp_path / "parts", "--max-memory", "3GB").stdout
    assert "plan: each step of learning reads all weights of both models 4 times" in " ".join(said.split())
    run(*words, "--out", tmp_path / "whole")
    parts, whole = stored(tmp_path / "parts"), stored(tmp_path / "whole")
    apart = [(parts[name].double() - whole[name].double()).norm() / (whole[name].norm() + 1) for name in whole]
    assert max(apart) < 1e-5
    assert json.loads((tmp_path / "parts" / "permgraph.json").read_text())["certificate"]["ok"]


def test_too_little_memory_is_refused(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("permgraph.jobs.plan_data.LEARNING_BYTES", 10**9)
    words = (*LEARNED, "--data", pair / "texts", "--max-memory", "3GB")
    told = run("align", pair / "a", pair / "b", *words, "--out", tmp_path / "out", code=1).stderr
    assert "a step of learning takes about" in " ".join(told.split())


@pytest.mark.parametrize("bias", [None, torch.ones(5)], ids=["linear", "addmm"])
def test_gradients_are_those_of_weights_that_are_kept(bias):
    torch.manual_seed(0)
    x, scale, still = torch.randn(3, 4, requires_grad=True), torch.ones(4, requires_grad=True), torch.randn(5, 5)
    stored, made = torch.randn(5, 4), []

    def weight(name):
        made.append(name)
        return still.clone() if name == "still" else stored * scale

    def outputs(weights):
        inner = nn.functional.linear(x, weights("moved")) if bias is None else torch.addmm(bias, x, weights("moved").mT)
        return nn.functional.linear(inner.relu(), weights("still")).square().sum()

    expected = torch.autograd.grad(outputs(weight), (x, scale))
    made.clear()
    weights = Recomputed(weight)
    with weights.saving():
        value = outputs(weights)
    assert made == ["moved", "still"]
    assert weights.alive == {}  # neither weight is kept until the backward pass
    found = torch.autograd.grad(value, (x, scale))
    assert sorted(made) == ["moved", "moved", "moved", "still", "still"]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
