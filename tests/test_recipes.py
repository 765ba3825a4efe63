"""A recipe runs a merge again, bit for bit; what cannot be read or trusted is refused by name."""

import json
import re
import sys
from pathlib import Path

import folders
import pytest
import torch
from commands import run

from permgraph.errors import OptionError
from permgraph.jobs.recipe import Request, read_recipe, recipe_text


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    for seed, name in enumerate("abc"):
        folders.bert(root / name, seed=seed)
    folders.sentences(root / "texts")
    return root


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("suffix", [".toml", ".yaml"])
def test_a_recipe_makes_the_same_bytes(given, tmp_path, suffix):
    words = ("--data", given / "texts", "--weight", 0.75, "--limit", 20, "--seed", 3, "--merge", "slerp")
    run("merge", given / "a", given / "b", *words, "--groups", "attention,feed_forward", "--out", tmp_path / "out")
    recipe = tmp_path / "out" / "recipe.toml"
    assert str(given) not in recipe.read_text()
    assert "\nweight = 0.75\n" in recipe.read_text()
    request = read_recipe(recipe)
    assert [Path(name).name for name in request.models] == ["a", "b"]
    assert (request.weight, request.limit, request.seed) == ("0.75", 20, 3)
    assert request.threads == torch.get_num_threads()
    if suffix == ".yaml":  # JSON is YAML
        names = ("models", "data", "weight", "limit", "seed", "merge", "groups")
        values = {name: getattr(request, name) for name in names} | {
            "weight": 0.75,
            "groups": ["attention", "feed_forward"],
        }
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(json.dumps(values))
        assert "give --allow-code" in run("merge", "--config", recipe, "--out", tmp_path / "again", code=1).stderr
    trust = ["--allow-code"] if suffix == ".yaml" else []
    run("merge", "--config", recipe, *trust, "--out", tmp_path / "again")
    assert weights(tmp_path / "again") == weights(tmp_path / "out")
    first, again = (json.loads((tmp_path / name / "permgraph.json").read_text()) for name in ("out", "again"))
    assert first["permutations"] == again["permutations"]
    assert first["seed"] == again["seed"] == 3
    run("merge", "--config", recipe, *trust, "--weight", 0.5, "--out", tmp_path / "other")
    assert weights(tmp_path / "other") != weights(tmp_path / "out")
    assert json.loads((tmp_path / "other" / "permgraph.json").read_text())["merge"]["weight"] == 0.5


def test_three_models_have_a_recipe_too(given, tmp_path):
    run("merge", given / "a", given / "b", given / "c", "--groups", "feed_forward", "--out", tmp_path / "out")
    run("merge", "--config", tmp_path / "out" / "recipe.toml", "--out", tmp_path / "again")
    assert weights(tmp_path / "again") == weights(tmp_path / "out")


def test_a_recipe_by_hand_names_folders_beside_it(given, tmp_path):
    recipe = given / "by hand.yml"
    recipe.write_text("models: [a, b]\nweight: {attention: 0.5, default: 0.9}\nout: by hand\n")
    run("merge", "--config", recipe)
    assert json.loads((given / "by hand" / "permgraph.json").read_text())["merge"]["weight"] == {
        "attention": 0.5,
        "default": 0.9,
    }


def test_inputs_that_are_no_longer_the_same_are_refused_by_name(given, tmp_path):
    folders.bert(tmp_path / "b", seed=1)
    run("merge", given / "a", tmp_path / "b", "--groups", "feed_forward", "--out", tmp_path / "out")
    recipe = tmp_path / "out" / "recipe.toml"
    folders.bert(tmp_path / "b", seed=9)
    refused = run("merge", "--config", recipe, "--out", tmp_path / "again", code=1).stderr
    assert f"{tmp_path / 'b' / 'model.safetensors'} has other bytes than when the recipe was written" in refused
    assert "[sha256]" in refused
    (tmp_path / "b" / "model.safetensors").unlink()
    assert "is not there as" in run("merge", "--config", recipe, "--out", tmp_path / "again", code=1).stderr
    assert not (tmp_path / "again").exists()
    run("merge", given / "a", given / "c", "--config", recipe, "--out", tmp_path / "others")


WRONG = {
    "no file": ("absent.toml", None, r"absent\.toml: cannot be read as a recipe"),
    "no TOML": ("r.toml", "models = [", "cannot be read as a recipe"),
    "no YAML": ("r.yaml", "models: [", "cannot be read as a recipe"),
    "neither": ("r.json", "{}", r"is a \.toml, \.yaml or \.yml file"),
    "a list": ("r.yaml", "[a, b]", "holds a list, not a table"),
    "unknown option": ("r.toml", 'module = "a"', r"unknown 'module'; a recipe has models, data, weight"),
    "models as text": ("r.toml", 'models = "a"', "models is 'a', which cannot be read .*list of names"),
    "models as numbers": ("r.toml", "models = [1, 2]", "list of names"),
    "limit as text": ("r.toml", 'limit = "8"', "limit is '8', which cannot be read .*whole number"),
    "seed as truth": ("r.toml", "seed = true", "seed is True"),
    "weight as a list": ("r.toml", "weight = [0.5]", "weight is"),
    "data as a number": ("r.toml", "data = 3", "data is 3, .*text is needed"),
    "hashes as text": ("r.toml", 'sha256 = "abc"', "sha256 is 'abc'"),
    "hashes of files elsewhere": ("r.yaml", "sha256: {/etc: {/etc/passwd: abc}}", "not the name of a file in its"),
    "hashes of files above": ("r.yaml", "sha256: {a: {../x: abc}}", "not the name of a file in its"),
    "hashes of no input": (
        "r.toml",
        'models = ["a", "b"]\n[sha256."/etc"]\npasswd = "0"',
        "sha256 has /etc, which",
    ),
    "no models": ("r.yaml", "models: 3", "models is 3"),
    "no threads": ("r.toml", "threads = 0", "a number from 1 to 4096"),
    "threads past any": ("r.toml", "threads = 1000000000000000000", "a number from 1 to 4096"),
    "a seed below zero": ("r.toml", "seed = -5", "a number from 0"),
    "a seed past any": ("r.yaml", f"seed: {10**30}", "a number from 0"),
    "no samples": ("r.toml", "limit = 0", "a number from 1"),
    "all but three samples": ("r.toml", "limit = -3", "a number from 1"),
    "a name with a NUL": ("r.yaml", 'models: ["a\\0b", c]', "text is needed"),
    "nested too deep": ("r.yaml", "models: " + "[" * 900 + "]" * 900, "nested too deep"),
    "TOML nested too deep": ("r.toml", "models = " + "[" * 3000 + "]" * 3000, "nested too deep"),
    "a name that is a list": ("r.yaml", "? [a]\n: 1", "cannot be read as a recipe|unknown"),
    "bytes": ("r.yaml", "models: !!binary aGFsbG8=", "models is b'hallo'"),
    "a bomb": (
        "r.yaml",
        "\n".join(
            ["x0: &x0 [" + ",".join("aaaaaaaaa") + "]"]
            + [f"x{k}: &x{k} [" + ",".join([f"*x{k - 1}"] * 9) + "]" for k in range(1, 20)]
        ).replace("x19: &x19", "models: &x19"),
        "unknown 'x0'|models is",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_recipe_that_cannot_be_read_says_where(tmp_path, name):
    file, text, message = WRONG[name]
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(OptionError, match=message) as caught:
        read_recipe(tmp_path / file)
    assert str(caught.value).startswith(str(tmp_path / file))
    assert run("merge", "--config", tmp_path / file, "--out", tmp_path / "x", code=1).stderr.startswith("error: ")


def test_yaml_needs_pyyaml(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "r.yaml").write_text("models: [a, b]")
    with pytest.raises(
        OptionError, match=r"^\S+r\.yaml: reading YAML needs PyYAML, which is not installed: pip install PyYAML"
    ):
        read_recipe(tmp_path / "r.yaml")


def test_a_recipe_without_two_models_or_a_place_is_a_usage_error(tmp_path):
    (tmp_path / "r.toml").write_text('models = ["a"]')
    assert "two models are needed" in run("merge", "--config", tmp_path / "r.toml", "--out", "x", code=2).stderr
    (tmp_path / "r.toml").write_text('models = ["a", "b"]\nweight = 2')
    assert "no folder to write" in run("merge", "--config", tmp_path / "r.toml", code=2).stderr
    assert "--weight" in run("merge", "--config", tmp_path / "r.toml", "--out", tmp_path / "x", code=2).stderr


def test_names_that_are_no_folders_stay_as_they_are(tmp_path):
    request = Request(models=("owner/name", "python:a.b:c", "timm:x"), data="python:a:b", seed=1)
    (tmp_path / "r.toml").write_text(recipe_text(request, tmp_path))
    assert read_recipe(tmp_path / "r.toml") == request


CODE = "import pathlib\npathlib.Path({!r}).touch()\ndef f(*_):\n    raise RuntimeError('ran')\n"
UNTRUSTED = {
    "a loss": ("models: [a, b]\nloss: python:evilmod:f\nout: o\n", r"loss python:evilmod:f is code.*--allow-code"),
    "a model": ("models: ['python:evilmod:f', a]\nout: o\n", "models python:evilmod:f is code"),
    "a model for files": ("models: [a, b]\nmodel: python:evilmod:f\nout: o\n", "model python:evilmod:f is code"),
    "data": ("models: [a, b]\ndata: python:evilmod:f\nout: o\n", "data python:evilmod:f is code"),
    "an output elsewhere": ("models: [a, b]\nout: {root}/elsewhere\n", "out .*elsewhere lies outside of its folder"),
    "an output above": ("models: [a, b]\nout: ../elsewhere\n", "out .*elsewhere lies outside of its folder"),
    "a model elsewhere": ("models: [a, '{root}/private']\nout: o\n", "private lies outside .*no hashes of it"),
    "a model by a link": ("models: [a, linked]\nout: o\n", "linked lies outside .*no hashes of it"),
    "data elsewhere": ("models: [a, b]\ndata: ../private\nout: o\n", "private lies outside .*no hashes of it"),
}


@pytest.mark.parametrize(("text", "message"), UNTRUSTED.values(), ids=UNTRUSTED)
def test_a_recipe_is_data_unless_it_is_trusted(tmp_path, monkeypatch, text, message):
    home = tmp_path / "recipe"
    for folder in (home / "a", home / "b", tmp_path / "private"):
        folder.mkdir(parents=True)
    (home / "linked").symlink_to(tmp_path / "private")
    (home / "evilmod.py").write_text(CODE.format(str(tmp_path / "ran")))
    (home / "r.yaml").write_text(text.replace("{root}", str(tmp_path)))
    monkeypatch.chdir(home)
    monkeypatch.delitem(sys.modules, "evilmod", raising=False)
    assert re.search(message, run("merge", "--config", home / "r.yaml", code=1).stderr)
    assert not (tmp_path / "ran").exists()
    run("merge", "--config", home / "r.yaml", "--allow-code", code=1)
    if "evilmod" in text and "models: [a, b]" not in text:
        assert (tmp_path / "ran").exists()


def test_a_recipe_with_hashes_reads_those_bytes_and_no_others(given, tmp_path):
    run("merge", given / "a", given / "b", "--groups", "feed_forward", "--out", tmp_path / "out")
    recipe = tmp_path / "out" / "recipe.toml"
    lines = [line for line in recipe.read_text().splitlines() if "model.safetensors" not in line]
    recipe.write_text("\n".join(lines))
    refused = run("merge", "--config", recipe, "--out", tmp_path / "again", code=1).stderr
    assert "model.safetensors of" in refused
    assert "has other bytes than when the recipe was written" in refused
