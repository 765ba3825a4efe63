"""What `--max-memory` refuses: files that cannot be read in parts, too little memory, options for whole models."""

import json

import pytest
import torch
from commands import run
from safetensors.torch import save_file
from test_storage import llama, stored

from permgraph.errors import CheckpointError
from permgraph.models.loading import load


def pickled(folder):
    state = stored(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    torch.save(state, folder / "pytorch_model.bin")


def renamed(folder):
    state = stored(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    state["model.more.weight"] = state.pop("model.norm.weight")
    state["model.layers.7.mlp.up_proj.weight"] = torch.ones(3)
    state["lm_head.weight"] = state["lm_head.weight"][1:].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


REFUSED = {
    "pickled weights": (pickled, ("2GB",), r"pytorch_model.bin can only be read as a whole"),
    "other names": (renamed, ("2GB",), r"do not fit LlamaForCausalLM as they are stored: of another shape: lm_head"),
    "too little memory": (None, ("1MB",), r"--max-memory 1 MB is too little"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    change, more, expected = REFUSED[name]
    a, b = (llama(tmp_path / side, seed, tied=False) for seed, side in enumerate("ab"))
    if change is not None:
        change(b)
    result = run("merge", a, b, "--out", tmp_path / "out", "--max-memory", *more, code=1)
    assert expected.replace("\\", "") in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reference", ["python:pairs:mlp", "timm:resnet18"])
def test_models_made_by_code_are_refused(reference):
    with pytest.raises(CheckpointError, match="is made whole in memory"):
        load(reference, on_demand=True)


def test_a_folder_of_timm_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": {}}))
    with pytest.raises(CheckpointError, match="timm's models are made whole in memory"):
        load(str(tmp_path), on_demand=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--max-memory", "much"), "a size is a number"),
        (("--max-memory", "2GB", "--data", ".", "--mix", "0.5"), "by weights or by correlation, or learns"),
        (("--max-memory", "2GB", "--data", ".", "--merge", "repair"), "runs merged models whole"),
        (("--max-memory", "2GB", "--device", "cuda"), "computes on the CPU"),
        (("--max-memory", "2GB", "--loss", "m:f"), "reads them in parts"),
    ],
)
def test_usage(words, expected):
    result = run("merge", "a", "b", "--out", "c", *words, code=2)
    assert expected in " ".join(result.stderr.split())
