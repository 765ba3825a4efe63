"""`inspect`, `explain`, `verify`, `adapters` and the help."""

import os
import re
import subprocess
import sys

import pytest
from commands import NORM, only_json, run

import permgraph
from permgraph.cli.app import app


def test_inspect_prints_the_groups(given):
    result = run("inspect", given / "a")
    assert "outputs free" in result.stdout
    assert "Sym(64)" in result.stdout
    assert not result.stderr


@pytest.mark.parametrize("words", [("--json",), ("--json", "-"), ("--json", "--quiet")])
def test_inspect_prints_the_specification_alone(given, words):
    result = run("inspect", given / "a", *words)
    only_json(result)
    spec = permgraph.PermutationSpec.from_json(result.stdout)
    assert spec.outputs == "free"
    assert ("groups" in result.stderr) is ("--quiet" not in words)


def test_options_may_stand_before_the_command(given):
    assert run("--json", "--quiet", "inspect", given / "a").stdout == run("inspect", given / "a", "--json").stdout


@pytest.mark.parametrize(("option", "beginning"), [("--dot", "graph permgraph {"), ("--html", "<!doctype html>")])
@pytest.mark.parametrize("stdout", ["-", "/dev/stdout"])
def test_a_page_can_go_to_stdout(given, tmp_path, monkeypatch, option, beginning, stdout):
    with (tmp_path / "file").open("w") as file:
        file.write("kept\n")
        file.flush()
        before = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            monkeypatch.setattr(sys, "stdout", os.fdopen(1, "w", closefd=False))
            app(["inspect", str(given / "a"), option, stdout], standalone_mode=False)
            sys.stdout.flush()
        finally:
            os.dup2(before, 1)
            os.close(before)
    assert beginning in (tmp_path / "file").read_text().lower()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_single_file_never_replaces_an_input(given, copies):
    before = (copies / "a" / "model.safetensors").read_bytes()
    for path in (copies / "a" / "model.safetensors", copies / "b" / ".." / "a" / "config.json"):
        result = run("inspect", copies / "a", "--dot", path, "--force", code=1)
        assert "is a file of the input" in result.stderr
    assert (copies / "a" / "model.safetensors").read_bytes() == before
    assert "cannot be written" in run("inspect", given / "a", "--dot", copies / ("n" * 300), code=1).stderr


def test_inspect_writes_files(given, tmp_path):
    names = {"--json": "spec.json", "--html": "page.html", "--dot": "ties.dot"}
    words = [word for option, name in names.items() for word in (option, tmp_path / name)]
    assert "Sym(64)" in run("inspect", given / "a", "--outputs", "fixed", *words).stdout
    assert permgraph.PermutationSpec.from_json((tmp_path / "spec.json").read_text()).outputs == "fixed"
    assert "<table>" in (tmp_path / "page.html").read_text()
    dot = (tmp_path / "ties.dot").read_text()
    assert dot.startswith("graph permgraph {")
    assert re.search(r'^  \d+ -- \d+ \[label="aten\.\w+"', dot, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names.values())
    before = (tmp_path / "page.html").read_bytes()
    refused = run("inspect", given / "b", "--html", tmp_path / "page.html", code=1)
    assert "exists already" in refused.stderr
    assert (tmp_path / "page.html").read_bytes() == before
    run("inspect", given / "b", "--html", tmp_path / "page.html", "--force")
    assert (tmp_path / "page.html").read_bytes() != before
    assert "does not exist" in run("inspect", given / "b", "--dot", tmp_path / "no" / "x.dot", code=1).stderr
    assert "is a folder" in run("inspect", given / "b", "--dot", tmp_path, code=1).stderr


def test_inspect_needs_no_weights(copies):
    (copies / "a" / "model.safetensors").unlink()
    run("inspect", copies / "a")


LOOKS = """
import torch
from torch import nn

class Looks(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        h = self.enter(x)
        return self.leave(h.relu() if DECIDES else h)

def make():
    return Looks().eval(), (torch.ones(3, 4),), {}
"""


def test_a_model_that_looks_at_its_inputs_is_inspected_with_its_weights(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    for name, decides in (("looks", "x.sum() > 0"), ("weighs", "h.sum() > 0")):
        (tmp_path / f"{name}.py").write_text(LOOKS.replace("DECIDES", decides))
    assert "Sym(6)" in run("inspect", "python:looks:make").stdout
    assert "hidden: Sym(6)" in run("explain", "python:looks:make", "leave.weight:1").stdout
    assert "make it static" in run("inspect", "python:weighs:make", code=1).stderr


def test_explain(given):
    text = run("explain", given / "a", f"{NORM}:0").stdout
    assert text.startswith(f"{NORM}[0], 32 units")
    pair = only_json(run("explain", given / "a", f"{NORM}:0", "encoder.layers.1.final_layer_norm.bias:0", "--json"))
    assert pair["verdict"] == "together"
    assert pair["chain"]
    fixed = only_json(run("explain", given / "a", f"{NORM}:0", "--outputs", "fixed", "--json"))
    assert fixed["verdict"] == "pinned"
    assert "near: " in run("explain", given / "a", "encoder.layer_norm.wait:0", code=1).stderr


def test_verify(given):
    assert "the function is unchanged" in run("verify", given / "b", "--trials", 1).stdout
    found = only_json(run("verify", given / "b", "--trials", 2, "--seed", 5, "--json"))
    assert found["ok"]
    assert (found["trials"], found["seed"]) == (2, 5)
    assert found["max_error"] < found["tolerance"]


def test_adapters():
    text = run("adapters").stdout
    assert "hubert, mert_model" in text
    assert f"permgraph {permgraph.__version__}" in text
    found = only_json(run("adapters", "--json"))["adapters"]
    assert {"name", "distribution", "model_types", "outputs", "problem"} == set(found[0])
    assert {item["name"] for item in found} >= {
        "bert", "data2vec-audio", "hubert", "llama", "vit", "wav2vec2", "wavlm", "whisper",
    }  # fmt: skip


def test_version_and_help():
    assert run("--version").stdout.strip() == permgraph.__version__
    text = run("--help").stdout
    for name in ("inspect", "explain", "verify", "align", "merge", "compare", "adapters", "demo"):
        assert name in text
        assert "--json" in run(name, "--help").stdout


def test_help_imports_neither_torch_nor_transformers():
    code = (
        "import sys\nfrom permgraph.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'networkx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_installed_program(given):
    code = "from permgraph.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", str(given / "a"), "no:0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the model has no parameter 'no'")
    assert "Traceback" not in done.stderr
