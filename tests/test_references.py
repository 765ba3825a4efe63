"""What a user types for a model: paths that are not there, hub ids, functions, names of timm."""

import sys

import pytest
import torch
from tiny_models import built
from transformers import BertModel

from permgraph.errors import CheckpointError
from permgraph.models.loading import load


@pytest.mark.parametrize("reference", ["/nowhere/at/all", "./nowhere", "a/b/c", "~/nowhere", "", "no such:model"])
def test_a_path_that_is_not_there_is_not_looked_up_anywhere(reference):
    with pytest.raises(CheckpointError, match="no such folder"):
        load(reference)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        load(str(tmp_path / "model.safetensors"))


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_what_to_do(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("name resolution failed")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(
        CheckpointError, match=r"owner/name: no such folder here.*name resolution failed.*give its folder"
    ):
        load("owner/name")


def test_a_hub_id_in_the_cache_needs_no_network(monkeypatch, tmp_path):
    import huggingface_hub

    def cached_only(*args, local_files_only=False, **kwargs):
        if not local_files_only:
            raise OSError("no network")
        return str(tmp_path)

    built("bert").save_pretrained(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", cached_only)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached_only)
    assert type(load("owner/name").model) is BertModel


PYTHON = """
import torch
from torch import nn

def good():
    return nn.Linear(3, 2).half().train(), (torch.ones(1, 3),), {}

def model_only():
    return nn.Linear(3, 2)

def diverged():
    model = nn.Linear(3, 2)
    model.weight.data[0] = float("nan")
    return model, (torch.ones(1, 3),), {}

def fails():
    raise RuntimeError("no luck")
"""


def test_a_function_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "zoo_for_test.py").write_text(PYTHON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "zoo_for_test", raising=False)
    before = list(sys.path)
    loaded = load("python:zoo_for_test:good")
    assert loaded.model.weight.dtype == torch.float32
    assert not loaded.model.training
    assert load("python:zoo_for_test:good", weights=False).model.weight.is_meta
    assert sys.path == before
    bad = {
        "zoo_for_test:model_only": r"returned \(Linear\), not",
        "zoo_for_test:diverged": r"weight \(3 of 6 values\)",
        "zoo_for_test:fails": "RuntimeError: no luck",
        "zoo_for_test:absent": "absent",
        "no_such_module_anywhere:f": "no_such_module_anywhere",
        "zoo_for_test": "not of the form",
        ":f": "not of the form",
    }
    for target, message in bad.items():
        with pytest.raises(CheckpointError, match=message):
            load(f"python:{target}")


def test_timm_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(CheckpointError, match=r"pip install 'permgraph\[timm\]'"):
        load("timm:resnet18")
