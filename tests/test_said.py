"""What a command does not do, it says: nothing moves, no BatchNorm is there, another tool has the method."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import run
from test_misgiven import mlp
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM

import permgraph as pg
from permgraph.comparing.batches import Reading
from permgraph.models.alike import require_alike

CODE = """
import torch
from torch import nn

def made(seed, *, norm=False):
    torch.manual_seed(seed)
    layers = [nn.Linear(5, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.ReLU(), nn.Linear(8, 3)]
    return nn.Sequential(*layers)

def a(): return made(0), (torch.randn(2, 5),), {}
def b(): return made(1), (torch.randn(2, 5),)
def c(): return made(1), torch.randn(2, 5)
def d(): return made(1), {"input": torch.randn(2, 5)}
def norm_a(): return made(0, norm=True), torch.randn(2, 5)
def norm_b(): return made(1, norm=True), torch.randn(2, 5)
def still(): return nn.Sequential(nn.Linear(5, 3)), torch.randn(2, 5)
def batches():
    torch.manual_seed(3)
    return [torch.randn(32, 5) for _ in range(4)]
def broken():
    yield torch.randn(32, 5)
    raise KeyError("row 7")
def loss(model): return float(model(torch.eye(5)).square().mean())
"""
A, B, NORMS = "python:said:a", "python:said:b", ("python:said:norm_a", "python:said:norm_b")
SAID: dict[str, tuple[tuple[str, ...], int, str]] = {
    "nothing moves": (("python:said:still", "python:said:still"), 0, "warning: no group of these models moves"),
    "no BatchNorm": (
        (A, B, "--data", "python:said:batches", "--merge", "linear+batch_norm"), 0,
        "--merge linear+batch_norm: the models have no BatchNorm, so batch_norm changed nothing",
    ),
    "BatchNorm": ((*NORMS, "--data", "python:said:batches", "--merge", "linear+batch_norm"), 0, ""),
    "mergekit's method": ((A, B, "--merge", "dare_ties"), 2, "write B aligned with `permgraph align`"),
    "data that nothing reads": (
        (A, B, "--data", "python:said:batches", "--method", "weights"), 0,
        "warning: --data python:said:batches is not read: units are matched by weights alone",
    ),
    "data that the merge reads": (
        (*NORMS, "--data", "python:said:batches", "--method", "weights", "--merge", "linear+batch_norm"), 0, "",
    ),
    "data that breaks off": (
        (A, B, "--data", "python:said:broken"), 1,
        "python:said:broken: its batch 2 fails: KeyError: 'row 7'. Repair the function",
    ),
    "inputs alone": (("python:said:c", "python:said:d"), 0, ""),
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "said.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "said", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", SAID)
def test_what_is_not_done_is_said(here: Path, name: str) -> None:
    words, code, message = SAID[name]
    told = run("merge", *words, "--out", here / "out", code=code).stderr
    assert message in " ".join(told.split())
    assert message or "BatchNorm" not in told


def test_the_curves_compare_alignment_under_one_method(here: Path) -> None:
    words = ("merge", *NORMS, "--data", "python:said:batches", "--merge", "linear+batch_norm", "--out", here / "out")
    out = " ".join(run(*words, "--loss", "python:said:loss").stdout.split())
    assert "unmoved, linear+batch_norm, " in out
    assert "aligned, linear+batch_norm, " in out


@pytest.mark.parametrize("models", [NORMS, (*NORMS, NORMS[0])], ids=["two", "three"])
def test_how_much_data_was_read_is_said_and_written_down(here: Path, models: tuple[str, ...]) -> None:
    out = run("merge", *models, "--data", "python:said:batches", "--out", here / "out").stdout
    assert "calibration data: 128 samples in 4 batches" in out
    data = json.loads((here / "out" / "permgraph.json").read_text())["inputs"]["data"]
    assert (data["batches"], data["samples"]) == (4, 128)
    report, card = ((here / "out" / name).read_text() for name in ("report.html", "README.md"))
    assert "python:said:batches, 128 samples in 4 batches" in report
    assert len(models) > 2 or "Matched by correlation: mean correlation of matched units" in card


@pytest.mark.parametrize(("steps", "batches"), [(3, 3), (9, 4)])
def test_learning_says_how_much_data_it_drew(here: Path, steps: int, batches: int) -> None:
    words = ("--data", "python:said:batches", "--kinds", "all", "--method", "learned", "--steps", steps)
    out = run("merge", *NORMS, *words, "--out", here / "out").stdout
    assert f"calibration data: {32 * batches} samples in {batches} batches" in out
    data = json.loads((here / "out" / "permgraph.json").read_text())["inputs"]["data"]
    assert (data["batches"], data["samples"]) == (batches, 32 * batches)


def test_a_comparison_says_how_much_data_it_read(here: Path) -> None:
    words = ("compare", *NORMS, "--data", "python:said:batches")
    assert "calibration data: 128 samples in 4 batches" in run(*words).stdout
    assert json.loads(run(*words, "--json").stdout)["data"] == {"batches": 4, "samples": 128, "unit": "samples"}


def test_one_sample_is_counted_as_one() -> None:
    assert str(Reading(1, 1, "rows of 128 tokens")) == "1 row of 128 tokens in 1 batch"
    assert str(Reading(2, 8, "rows of 128 tokens")) == "8 rows of 128 tokens in 2 batches"


def test_models_of_two_origins_are_named_as_what_they_are(here: Path) -> None:
    own = pg.load(A)
    with pytest.raises(pg.SpecMismatchError, match="said:a has a BertConfig and python:said:a is a Sequential"):
        require_alike(replace(own, config=BertConfig()), own)


def test_a_config_that_no_pass_fits_is_named_with_the_weights(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 16}
    LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, intermediate_size=16)).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text()) | {"num_key_value_heads": 3}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    told = run("inspect", tmp_path, code=1).stderr
    assert "Nor can it be traced with its weights: " in told
    assert "k_proj.weight (file [8, 16], LlamaForCausalLM [12, 16])" in told


def test_a_recipe_of_mergekit_is_told_how_it_is_spelled(here: Path) -> None:
    (here / "r.yaml").write_text("models:\n  - model: a\nmerge_method: ties\n")
    told = run("merge", "--config", here / "r.yaml", "--out", here / "out", code=1).stderr
    assert "write `merge: NAME` and `models: [A, B]`" in told


@pytest.mark.parametrize("given", ["0.weight:0", ("0.weight", 0)])
def test_an_axis_is_named_as_on_the_command_line(given: tuple[str, int]) -> None:
    spec = pg.derive(mlp(), (torch.randn(2, 5),))
    assert str(spec.explain(given)) == str(spec.explain(("0.weight", 0)))


def test_a_unique_end_of_a_name_is_enough() -> None:
    model = torch.nn.Sequential(mlp()).eval()
    spec = pg.derive(model, (torch.randn(2, 5),))
    assert str(spec.explain(("2.weight", 1))) == str(spec.explain(("0.2.weight", 1)))
    with pytest.raises(pg.SpecMismatchError, match="the model has no parameter 'weight'"):
        spec.explain(("weight", 0))
