"""The adapter of docs/how-to-add-an-adapter.md, installed as a distribution of its own, merges two checkpoints."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from safetensors.torch import load_file, save_file

PAGE = Path(__file__).parents[1] / "docs" / "how-to-add-an-adapter.md"
BLOCK = re.compile(r'^```\w+ title="(?P<name>[^"]+)"\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)


def blocks():
    return {found["name"]: found["text"] for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed distributions, with the model and the adapter of the page in it."""
    root = tmp_path_factory.mktemp("how to")
    (root / "package").mkdir()
    (root / "site").mkdir()
    files = blocks()
    (root / "site" / "pulsenet.py").write_text(files.pop("pulsenet.py"))
    for name, text in files.items():
        (root / "package" / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", root / "site", root / "package"],
        check=True,
        capture_output=True,
    )
    return root / "site"


@pytest.fixture
def given(tmp_path):
    """Two checkpoints with the keys of the page, and signals."""
    sizes = {
        "read.weight": (8, 1, 9), "read.bias": (8,), "norm.weight": (8,), "norm.bias": (8,), "norm.running_mean": (8,),
        "norm.running_var": (8,), "hidden.weight": (16, 8), "hidden.bias": (16,), "decide.weight": (3, 16),
        "decide.bias": (3,), "baseline": (8,),
    }  # fmt: skip
    for seed, name in enumerate("ab"):
        generator = torch.Generator().manual_seed(seed)
        state = {f"net.{key}": torch.rand(size, generator=generator) + 0.1 for key, size in sizes.items()}
        state["net.norm.num_batches_tracked"] = torch.tensor(7)
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"model_type": "pulsenet", "width": 8}')
    (tmp_path / "signals").mkdir()
    for number in range(40):
        np.save(tmp_path / "signals" / f"{number}.npy", np.random.default_rng(number).normal(size=400))
    return tmp_path


@pytest.fixture
def installed(site, given, monkeypatch):
    """The folder with the checkpoints as the working directory, in an environment with the adapter."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(given)
    return given


def test_the_adapter_is_short():
    files = blocks()
    assert set(files) == {"pulsenet.py", "permgraph_pulsenet.py", "pyproject.toml"}
    assert len((files["permgraph_pulsenet.py"] + files["pyproject.toml"]).splitlines()) < 60


def test_it_is_listed_with_its_own_package(installed):
    found = json.loads(run("adapters", "--json").stdout)["adapters"]
    (mine,) = [item for item in found if item["name"] == "pulsenet"]
    assert (mine["distribution"], mine["model_types"], mine["problem"]) == (
        "permgraph-pulsenet 0.3",
        ["pulsenet"],
        None,
    )


def test_it_merges_two_checkpoints(installed):
    run("merge", "a", "b", "--data", "signals", "--weight", "0.75", "--out", "merged")
    a, b = (load_file(installed / name / "model.safetensors") for name in "ab")
    merged = load_file(installed / "merged" / "model.safetensors")
    report = json.loads((installed / "merged" / "permgraph.json").read_text())
    assert report["certificate"]["ok"]
    (name,) = [name for name in report["groups"] if len(report["permutations"][name]) == 8]
    order = report["permutations"][name]
    assert order != sorted(order)
    assert report["tensors"]["baseline"] == "moved"
    for key in ("baseline", "norm.running_var", "read.bias"):
        assert torch.allclose(merged[key], 0.75 * a[f"net.{key}"] + 0.25 * b[f"net.{key}"][order], atol=1e-6)
    assert json.loads((installed / "merged" / "config.json").read_text())["architectures"] == ["PulseNet"]
    assert "from pulsenet import PulseNet\n" in (installed / "merged" / "README.md").read_text()


def test_its_refusals_are_told(installed):
    assert "no signals" in run("align", "a", "b", "--data", "a", "--out", "x", code=1).stderr
    (installed / "b" / "config.json").write_text('{"model_type": "pulsenet", "width": 8, "streaming": true}')
    assert "streaming is on" in run("align", "a", "b", "--out", "x", code=1).stderr


def test_without_it_the_model_type_is_unknown(given):
    assert "'pulsenet' is not known to transformers" in run("inspect", given / "a", code=1).stderr
