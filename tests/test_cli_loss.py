"""`merge --loss`: the loss between two models, in the report, in the record and in one line."""

import json
import re

import folders
import pytest
import torch
from commands import only_json, require_error, run

from permgraph.models.loading import load

FUNCTIONS = """
import torch
from torch import nn

x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def make(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (x[:2],), {}


def a():
    return make(0)


def b():
    return make(1)


def loss(model):
    assert not torch.is_grad_enabled()
    return model(x).square().mean(), (model(x) > 0).float().mean()


def fails(model):
    raise RuntimeError("no luck")


def other_head():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5)).eval(), (x[:2],), {}


def words(model):
    return "much"


def endless(model):
    return float("nan")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "loss_for_test.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def llamas(tmp_path_factory):
    root = tmp_path_factory.mktemp("llamas")
    for seed, name in enumerate("ab"):
        folders.bert(root / name, "LlamaForCausalLM", seed=seed)
    folders.sentences(root / "texts")
    return root


def test_a_language_model_is_judged_on_the_texts_by_its_own_loss(llamas, tmp_path):
    words = ("merge", llamas / "a", llamas / "b", "--data", llamas / "texts", "--loss", "own")
    told = run(*words, "--out", tmp_path / "out").stdout
    curves = json.loads((tmp_path / "out" / "permgraph.json").read_text())["curves"]
    assert list(curves) == ["unmoved", "aligned"]
    first, last = (own_loss(llamas / name, llamas / "texts", llamas / "a") for name in "ba")
    for curve in curves.values():
        assert len(curve["losses"]) == len(curve["weights"]) == 11
        assert (curve["losses"][0], curve["losses"][-1]) == (pytest.approx(first), pytest.approx(last))
    assert curves["unmoved"]["losses"][5] != curves["aligned"]["losses"][5]
    assert re.search(rf"^loss: {last:.4g} of A, {first:.4g} of B; unmoved, .*; aligned, .*barrier", told, re.MULTILINE)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Between the two models" in page
    assert "<dt>loss</dt><dd>own</dd>" in page
    run("merge", "--config", tmp_path / "out" / "recipe.toml", "--out", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "permgraph.json").read_text())["curves"] == curves


@torch.no_grad()
def own_loss(folder, texts, reader):
    model = load(str(folder)).model
    batches = list(load(str(reader)).calibration(texts))
    return sum(float(model(**batch, labels=batch["input_ids"]).loss) for batch in batches) / len(batches)


BATCHES = """
import torch


def none():
    return []


def tensors():
    return [torch.randint(5, 40, (4, 24), generator=torch.Generator().manual_seed(k)) for k in range(4)]
"""


def test_batches_of_ones_own(llamas, here):
    (here / "batches_for_loss.py").write_text(BATCHES)
    words = ("merge", llamas / "a", llamas / "b", "--loss", "own", "--out", "out", "--data")
    assert only_json(run(*words, "python:batches_for_loss:tensors", "--json"))["loss"] == "own"
    require_error(run(*words, "python:batches_for_loss:none", "--force", code=1), "give at least one batch")


def test_a_function_judges_any_model(here):
    models = ("python:loss_for_test:a", "python:loss_for_test:b")
    words = ("merge", *models, "--loss", "python:loss_for_test:loss", "--merge", "slerp", "--out", "out", "--json")
    curves = only_json(run(*words))["curves"]
    assert list(curves) == ["unmoved, slerp", "aligned, slerp"]
    assert all(len(curve["accuracies"]) == 11 for curve in curves.values())


def test_without_a_loss_there_is_no_curve(here):
    words = ("merge", "python:loss_for_test:a", "python:loss_for_test:b", "--out", "out", "--json")
    assert only_json(run(*words))["curves"] is None
    assert "Between the two models" not in (here / "out" / "report.html").read_text()


REFUSED = {
    "own": r"a Sequential, and only a causal language model has a loss without labels\. Give --loss python:",
    "perplexity": "--loss perplexity: is neither 'own' nor python:module:function",
    "python:loss_for_test:absent": "loss_for_test:absent: AttributeError: .* must be importable from here",
    "python:loss_for_test:fails": "RuntimeError: no luck. The function is called with one model, a Sequential",
    "python:loss_for_test:words": "ValueError: .*must return its loss",
    "python:loss_for_test:endless": "the loss of model B is nan",
}


@pytest.mark.parametrize("loss", REFUSED)
def test_a_loss_that_cannot_be_computed_is_refused_and_nothing_is_written(here, loss):
    (here / "texts").mkdir()
    data = () if loss.startswith("python:") else ("--data", "texts")
    words = ("merge", "python:loss_for_test:a", "python:loss_for_test:b", *data, "--loss", loss, "--out", "out")
    require_error(run(*words, code=1), REFUSED[loss])
    assert not (here / "out").exists()


def test_between_two_heads_there_is_no_model_to_judge(here):
    models = ("python:loss_for_test:a", "python:loss_for_test:other_head")
    words = ("merge", *models, "--heads", "both", "--loss", "python:loss_for_test:loss", "--out", "out")
    require_error(run(*words, code=1), "differ in shape, so that no model lies between them. Leave it out")
