"""Weights in single files, for a model that code makes."""

import json

import pytest
import torch
from commands import run
from safetensors.torch import load_file, save_file
from torch import nn

from permgraph.errors import CheckpointError
from permgraph.models.loading import load

CODE = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), (torch.randn(2, 4),), {}
"""
MODEL = "python:single_net:net"


def weights(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).half().state_dict()


WRITERS = {
    "a.safetensors": lambda path, state: save_file(state, path),
    "a.pt": lambda path, state: torch.save(state, path),
    "a.pth": lambda path, state: torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "e": 1}, path),
    "a.ckpt": lambda path, state: torch.save({"state_dict": {f"net.{n}": t for n, t in state.items()}}, path),
    "a.bin": lambda path, state: torch.save(state, path, _use_new_zipfile_serialization=False),
    "folder": lambda path, state: (path.mkdir(), save_file(state, path / "model.safetensors")),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "single_net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_every_kind_are_merged(here, name):
    WRITERS[name](here / name, weights(0))
    save_file(weights(1), here / "b.safetensors")
    run("merge", here / name, here / "b.safetensors", "--model", MODEL, "--out", here / "out")
    out = load_file(here / "out" / "model.safetensors")
    assert {key: tensor.dtype for key, tensor in out.items()} == dict.fromkeys(weights(0), torch.float16)
    found = json.loads((here / "out" / "permgraph.json").read_text())
    assert [list(model["sha256"]) for model in found["inputs"]["models"]] == [
        ["model.safetensors" if name == "folder" else name], ["b.safetensors"],
    ]  # fmt: skip
    run("merge", "--config", here / "out" / "recipe.toml", "--allow-code", "--out", here / "again")
    assert all(torch.equal(tensor, out[key]) for key, tensor in load_file(here / "again/model.safetensors").items())
    run("align", here / name, here / "b.safetensors", "--model", MODEL, "--out", here / "aligned")


WRONG = {
    "another shape": (lambda s: s | {"0.bias": torch.ones(5)}, r"of another shape: 0\.bias \(file \[5\]"),
    "a tensor less": (lambda s: {n: t for n, t in s.items() if n != "2.bias"}, r"missing from the files: 2\.bias"),
    "a layer more": (lambda s: s | {"4.weight": torch.ones(3)}, r"not in python:single_net:net: 4\.weight"),
    "not finite": (lambda s: s | {"2.bias": torch.full((3,), torch.nan)}, "NaN or infinite: 2.bias"),
    "quantized": (lambda s: s | {"2.bias": torch.ones(3, dtype=torch.int8)}, "int8: 2.bias"),
    "two models": (
        lambda s: {f"{m}.{n}": t.clone() for m in ("g", "d") for n, t in s.items()}, "several models fit, under d., g."
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_files_that_do_not_fit_are_refused_by_name(here, change, message):
    save_file(change(weights(0)), here / "a.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        load(str(here / "a.safetensors"), model=MODEL)
    assert str(here / "a.safetensors") in str(caught.value)


def test_a_file_without_a_model_says_how_to_give_one(here):
    save_file(weights(0), here / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"is a file of weights.*--model python:package\.module:function"):
        load(str(here / "a.safetensors"))
    with pytest.raises(CheckpointError, match="makes no model"):
        load(str(here / "a.safetensors"), model="bert-base")
    (here / "config.json").touch()
    with pytest.raises(CheckpointError, match="is a file that holds no weights"):
        load(str(here / "config.json"))
    (here / "a.gguf").touch()
    with pytest.raises(CheckpointError, match="GGUF"):
        load(str(here / "a.gguf"))


def test_what_code_makes_has_a_hash(here):
    run("merge", MODEL, MODEL, "--out", here / "out")
    found = json.loads((here / "out" / "permgraph.json").read_text())
    assert [set(model["sha256"]) for model in found["inputs"]["models"]] == [{"state_dict"}] * 2
