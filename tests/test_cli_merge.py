"""`align` and `merge`: what they write and what they say."""

import json
import os
import re
from hashlib import sha256

import numpy as np
import pytest
import torch
from commands import RATE, hubert, only_json, require_error, run
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel, HubertModel

import permgraph
from permgraph.jobs import merge as merge_job
from permgraph.matching.match import matcher
from permgraph.merging import correction, layer_method, merge_method


def test_merge_writes_a_checkpoint_that_transformers_loads(given, tmp_path):
    out = tmp_path / "out"
    result = run("merge", given / "a", given / "b", "--data", given / "clips", "--weight", 0.9, "--out", out)
    assert "certificate: the function is unchanged" in result.stdout
    assert "encoder.layers.0–1.feed_forward.hidden" in result.stdout
    assert f"written to {out}" in result.stdout
    assert "of the mean of what A and B compute (features); each of them" in result.stdout
    assert not result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "permgraph.json", "preprocessor_config.json", "recipe.toml",
        "report.html",
    ]  # fmt: skip
    report = json.loads((out / "permgraph.json").read_text())
    model = AutoModel.from_pretrained(out)
    assert type(model) is HubertModel
    assert AutoFeatureExtractor.from_pretrained(out).sampling_rate == RATE
    assert "model = HubertModel.from_pretrained('out')" in (out / "README.md").read_text()
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1
    check_report(report, given)
    check_weights(report, given, model.state_dict())


def check_report(report, given):
    assert report["permgraph"] == permgraph.__version__
    assert report["versions"]["torch"]
    fidelity = report["merge"].pop("fidelity")
    assert (fidelity["kind"], 0 < fidelity["merge"] < 1, fidelity["rows"] > 0) == ("features", True, True)
    assert report["merge"] == {"method": "linear", "weight": 0.9}
    assert (report["method"], report["seed"]) == ("correlation", 0)
    assert report["certificate"]["ok"]
    assert report["command"] == "permgraph merge a b --data clips --weight 0.9 --out out"
    for model, name in zip(report["inputs"]["models"], "ab", strict=True):
        for file, found in model["sha256"].items():
            assert found == sha256((given / name / file).read_bytes()).hexdigest()
        assert set(model["sha256"]) == {"config.json", "model.safetensors"}
    assert set(report["inputs"]["data"]["sha256"]) == {"0.wav", "1.wav"}
    assert set(report["permutations"]) == set(report["gains"]) == set(report["groups"])
    assert len(report["groups"]) == report["spec"]["groups"]
    assert all(gain["solution"] >= gain["identity"] for gain in report["gains"].values())


def check_weights(report, given, merged):
    a, b = (load_file(given / name / "model.safetensors") for name in "ab")
    order = report["permutations"]["encoder.layers.0.feed_forward.hidden"]
    assert order != sorted(order)
    name = "encoder.layers.0.feed_forward.intermediate_dense.bias"
    assert torch.allclose(merged[name], 0.9 * a[name] + 0.1 * b[name][order], atol=1e-7)
    spec = permgraph.PermutationSpec.from_json(run("inspect", given / "a", "--json", "-q").stdout)
    assert {group.name for group in spec.groups} == set(report["groups"])


def test_merge_by_weights_of_some_groups_as_slerp(given, tmp_path):
    words = ("--groups", "conv, attention", "--merge", "slerp", "--seed", 3, "--json", "--out", tmp_path / "out")
    result = run("merge", given / "a", given / "b", *words)
    found = only_json(result)
    assert found["out"] == str(tmp_path / "out")
    assert found["merge"] == {"method": "slerp", "weight": 0.5}
    assert (found["method"], found["seed"]) == ("weights", 3)
    assert "permutations" not in found
    assert "certificate: " in result.stderr
    report = json.loads((tmp_path / "out" / "permgraph.json").read_text())
    moved = {n for n, p in report["permutations"].items() if not np.array_equal(np.sort(p), p)}
    assert moved
    assert moved <= set(report["groups"])
    assert {name for name in report["groups"] if "feed_forward" in name or "residual" in name} == set()
    silent = run("--quiet", "merge", given / "a", given / "b", *words, "--force")
    assert only_json(silent)["spec"] == found["spec"]
    assert not silent.stderr


def test_align_writes_b_with_the_function_of_b(given, tmp_path):
    hubert(tmp_path / "b", 1, {"do_normalize": False})
    out = tmp_path / "out"
    result = run("align", given / "a", tmp_path / "b", "--data", given / "clips", "--limit", 1, "--out", out)
    assert result.stderr.startswith("warning: do_normalize is True in ")
    assert len(result.stderr.splitlines()) == 1
    before, after = (AutoModel.from_pretrained(folder).eval() for folder in (tmp_path / "b", out))
    waves = torch.randn(1, RATE)
    with torch.no_grad():
        x, y = (model(waves).last_hidden_state for model in (before, after))
    assert not torch.allclose(x, y, atol=1e-3)
    assert torch.allclose(x.sort(-1).values, y.sort(-1).values, atol=1e-4)
    assert not AutoFeatureExtractor.from_pretrained(out).do_normalize
    report = json.loads((out / "permgraph.json").read_text())
    assert report["merge"] is None


def test_merge_of_three_models(given, tmp_path):
    hubert(tmp_path / "c", 2)
    words = ("merge", given / "a", given / "b", tmp_path / "c", "--data", given / "clips", "--weight", 0.5)
    out = tmp_path / "out"
    assert "certificate, the worst of 3: the function is unchanged" in run(*words, "--out", out).stdout
    report = json.loads((out / "permgraph.json").read_text())
    assert report["merge"] == {"method": "linear", "weights": [0.5, 0.25, 0.25]}
    assert report["certificate"]["ok"]
    assert [model["model"] for model in report["inputs"]["models"]] == ["a", "b", "c"]
    assert re.search(r"<th[^>]*>B: b</th><th[^>]*>C: c</th>", (out / "report.html").read_text())
    name, group = (f"encoder.layers.0.feed_forward.{end}" for end in ("intermediate_dense.bias", "hidden"))
    a, b, c = (load_file(folder / "model.safetensors")[name] for folder in (given / "a", given / "b", tmp_path / "c"))
    orders = [element[group] for element in report["permutations"]]
    assert orders[0] == sorted(orders[0]) != orders[1]
    assert report["gains"][0] == {}
    for gains in report["gains"][1:]:
        assert set(gains) == set(report["groups"])
        assert all(gain["identity"] <= gain["solution"] <= gain["bound"] for gain in gains.values())
    expected = 0.5 * a + 0.25 * b[orders[1]] + 0.25 * c[orders[2]]
    assert torch.allclose(AutoModel.from_pretrained(out).state_dict()[name], expected, atol=1e-6)
    (tmp_path / "c" / "config.json").unlink()
    require_error(run(*words, "--out", tmp_path / "no", code=1), "has no config.json")
    assert not (tmp_path / "no").exists()


def test_merge_of_three_models_by_a_mix(given, tmp_path):
    hubert(tmp_path / "c", 2)
    words = ("merge", given / "a", given / "b", tmp_path / "c", "--data", given / "clips", "--mix", 0.5)
    assert "groups matched by weights and correlation mixed" in run(*words, "--out", tmp_path / "out").stdout
    report = json.loads((tmp_path / "out" / "permgraph.json").read_text())
    assert report["method"] == "mix"
    assert all(gain["bound"] == pytest.approx(1) for own in report["gains"][1:] for gain in own.values())


def test_merge_of_models_by_learning(given, tmp_path):
    words = ("--data", given / "clips", "--kinds", "all", "--method", "learned", "--steps", 2)
    run("merge", given / "a", given / "b", *words, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "permgraph.json").read_text())["method"] == "learned"
    assert "steps = 2\n" in (tmp_path / "out" / "recipe.toml").read_text()


def test_merge_of_models_made_by_python(tmp_path, monkeypatch):
    source = (
        "import torch\nfrom torch import nn\n"
        "def make(seed):\n    torch.manual_seed(seed)\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (torch.ones(2, 4),), {}\n"
        "def a():\n    return make(0)\ndef b():\n    return make(1)\n"
    )
    (tmp_path / "cli_test_models.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    found = only_json(run("merge", "python:cli_test_models:a", "python:cli_test_models:b", "--out", "out", "--json"))
    assert found["inputs"]["models"][0]["model"] == "python:cli_test_models:a"
    names = ["README.md", "model.safetensors", "permgraph.json", "recipe.toml", "report.html"]
    assert sorted(os.listdir("out")) == names


def test_the_choices_of_merge_are_those_of_the_engine():
    told = run("merge", "--help").stdout
    assert all(name in told for name in (*merge_method, *layer_method, *correction))
    assert all(name in told for name in matcher)


def test_merge_by_least_squares_and_repair_with_shares_by_role(given, tmp_path):
    words = ("--data", given / "clips", "--merge", "pleas+repair", "--weight", "feed_forward=0.25,default=0.75")
    out = tmp_path / "out"
    result = run("merge", given / "a", given / "b", *words, "--json", "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["merge"]
    assert set(found.pop("fidelity")) == {"merge", "parents", "divergence", "kind", "rows"}
    assert found == {"method": "pleas+repair", "weight": {"feed_forward": 0.25, "default": 0.75}}
    assert "A's shares: default 0.75, feed_forward 0.25" in (out / "README.md").read_text()
    AutoModel.from_pretrained(out)


def test_shares_by_role_name_what_the_others_have():
    assert merge_job._shares({"attention": 0.25}) == "{} with {}, A's shares: default 0.5, attention 0.25"


def test_merge_with_shares_from_correlation_is_told(given, tmp_path):
    words = ("--data", given / "clips", "--weight", "correlation", "--out", tmp_path / "out")
    result = run("merge", given / "a", given / "b", *words)
    assert result.exit_code == 0, result.output
    assert "share by correlation" in result.stdout


def test_force_replaces_a_checkpoint(given, tmp_path):
    out = tmp_path / "out"
    run("align", given / "a", given / "b", "--groups", "conv", "--out", out)
    before = (out / "model.safetensors").read_bytes()
    again = ("align", given / "b", given / "a", "--groups", "conv", "--out", out)
    require_error(run(*again, code=1), "is not empty")
    run(*again, "--force")
    assert (out / "model.safetensors").read_bytes() != before
    (out / "thesis.tex").touch()
    require_error(run(*again, "--force", code=1), r"did not write there \(thesis\.tex\)")
    assert (out / "thesis.tex").exists()


@pytest.mark.parametrize("what", ["a", "b", "clips", "recipe"])
@pytest.mark.parametrize("command", ["merge", "align"])
def test_force_keeps_every_input(copies, what, command):
    out = copies / what
    if what == "recipe":
        run("merge", copies / "a", copies / "b", "--groups", "conv", "--out", out)
    before = {path: path.read_bytes() for path in copies.rglob("*") if path.is_file()}
    words = [copies / "a", copies / "b", "--data", copies / "clips", "--out", out, "--force"]
    if what == "recipe":
        words = ["--config", out / "recipe.toml", "--out", out, "--force"]
        command = "merge"
    assert "the input" in run(command, *words, code=1).stderr
    assert before == {path: path.read_bytes() for path in copies.rglob("*") if path.is_file()}
