"""Checkpoint folders of transformers: loaded, built from their config alone, written again, refused."""

import json

import pytest
import torch
from tiny_models import MODELS, TEXT, built
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification

from permgraph import adapters
from permgraph.adapters import Adapter
from permgraph.checkpoints.reading import open_checkpoint
from permgraph.checkpoints.writing import write_merged
from permgraph.errors import AdapterError, CheckpointError
from permgraph.models.loading import load


@torch.no_grad()
def outputs(model, kwargs):
    return [value for value in model(**kwargs).to_tuple() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_an_adapter_loads_runs_and_is_written_again(tmp_path, monkeypatch, name):
    monkeypatch.setattr(adapters, "entry_points", lambda group: [])
    model = built(name)
    model.save_pretrained(tmp_path / "a")
    loaded = load(str(tmp_path / "a"))
    assert type(loaded.model) is type(model)
    assert type(loaded.adapter) is Adapter
    assert loaded.outputs == "fixed"
    expected = outputs(model, loaded.kwargs)
    assert expected
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(outputs(loaded.model, loaded.kwargs), expected, strict=True)
    )
    out = write_merged(
        tmp_path / "out", loaded.model.state_dict(), report={}, config=loaded.config, architecture=loaded.architecture
    )
    again = type(model).from_pretrained(out).eval()
    assert all(torch.equal(a, b) for a, b in zip(outputs(again, loaded.kwargs), expected, strict=True))
    assert again.config.use_cache == model.config.use_cache if hasattr(model.config, "use_cache") else True


@pytest.mark.parametrize("name", MODELS)
def test_shapes_alone_need_no_weights(tmp_path, name):
    model = built(name)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    loaded = load(str(tmp_path), weights=False)
    assert {tensor.device.type for tensor in loaded.model.parameters()} == {"meta"}
    shapes = {name: tensor.shape for name, tensor in loaded.model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}


def test_a_checkpoint_that_holds_more_than_the_class_it_names(tmp_path):
    model = BertForPreTraining(BertConfig(**TEXT))
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["BertForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert type(load(str(tmp_path)).model) is BertForPreTraining
    fields["architectures"] = ["BertForMaskedLM"]
    BertForMaskedLM(BertConfig(**TEXT)).save_pretrained(tmp_path)
    assert type(load(str(tmp_path)).model) is BertForMaskedLM


def test_a_config_of_other_sizes_is_refused_with_both_shapes(tmp_path):
    built("bert").save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text()) | {"intermediate_size": 48}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"intermediate\.dense\.bias \(file \[64\], BertModel \[48\]\)"):
        load(str(tmp_path))


def test_a_head_of_other_labels_is_not_left_out_without_a_word(tmp_path):
    BertForSequenceClassification(BertConfig(**TEXT, num_labels=2)).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text()) | {"id2label": {str(k): f"{k}" for k in range(5)}}
    (tmp_path / "config.json").write_text(json.dumps(fields | {"label2id": {f"{k}": k for k in range(5)}}))
    with pytest.raises(CheckpointError, match=r"classifier\.bias \(file \[2\], BertForSequenceClassification \[5\]\)"):
        load(str(tmp_path))


FOLDERS = {
    "no config": ({}, CheckpointError, "no config.json"),
    "config cut off": ({"config.json": "{"}, CheckpointError, r"config\.json .*cannot be read"),
    "config is a list": ({"config.json": "[]"}, CheckpointError, "not an object"),
    "config with a mark": ({"config.json": "\ufeff{}"}, CheckpointError, "begins with a byte order mark"),
    "no model type": ({"config.json": "{}"}, CheckpointError, "model_type"),
    "unknown model type": ({"config.json": '{"model_type": "x9"}'}, AdapterError, "'x9' is not known to transformers"),
    "impossible value": ({"config.json": '{"model_type": "bert", "hidden_size": "big"}'}, AdapterError, "hidden_size"),
    "impossible sizes": (
        {"config.json": '{"model_type": "bert", "hidden_size": 30}', "model.safetensors": "x"},
        (AdapterError, CheckpointError),
        "hidden.size|cannot be read",
    ),
    "no weights": ({"config.json": '{"model_type": "bert"}'}, CheckpointError, "no weights"),
}


@pytest.mark.parametrize(("files", "error", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_is_no_model_is_refused(tmp_path, files, error, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        load(str(tmp_path))


def test_tied_weights_of_a_language_model_survive(tmp_path):
    model = built("gpt2")
    model.save_pretrained(tmp_path / "a")
    loaded = load(str(tmp_path / "a"))
    state = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    out = write_merged(
        tmp_path / "out", state, report={}, config=loaded.config, architecture=loaded.architecture, force=False
    )
    assert "lm_head.weight" in open_checkpoint(out)
    again = load(str(out))
    assert again.model.lm_head.weight is again.model.transformer.wte.weight
